"""Every plot draws, shows what the report has, and no text of it is cut off or lies on another."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from mlxnb.errors import BackendMissingError
from mlxnb.profiling.judge.compare import comparisons
from mlxnb.profiling.report import Report
from mlxnb.profiling.show.plots import PLOTS, Plots
from mlxnb.render.plot import Plot

from ..render.hostile import ALL as HOSTILE
from .whole_reports import EMPTY, MODEL, full, inside, judged, samples, single, turns

FULL = full()
NAMES = [*PLOTS, "sweep-kv_bits"]


def two_models() -> Report:
    """Two models of long names in one report, several of everything."""
    report = full(1)
    models = (replace(MODEL, name="organisation/a-model-with-a-rather-long-name-4bit"), replace(MODEL, name="other"))
    cases = [replace(case, model=i % 2 if case.model is not None else None) for i, case in enumerate(report.cases)]
    cases[9] = replace(cases[9], label="a case whose label is as long as somebody's whole sentence, kv_bits=8")
    report = judged(replace(report, models=models, cases=tuple(cases)))
    return replace(report, insides=(inside(0), inside(1), inside(1, 8192)), comparisons=comparisons(report))


def hostile() -> Report:
    """Names that would be mathematics, markup or several lines."""
    report = full(2)
    odd = [
        "$x$ and $y",
        "$\\frac{",
        "a\nb\tc",
        "</text>",
        "日本",
        "\\",
        "_^{}",
        "\x1b[31mred",
        "🙂",
        "",
        "  ",
        "%s",
        "{}",
    ]
    cases = tuple(replace(case, label=label, scenario=label) for case, label in zip(report.cases, odd, strict=True))
    return replace(report, models=(replace(MODEL, name="$\\frac{1}$\n`x`"),), cases=cases)


REPORTS = {"full": FULL, "two models": two_models(), "hostile": hostile()}


@cache
def of_full() -> Plots:
    return FULL.plots()


def texts(figure: Figure) -> Iterator[Text]:
    figure.draw_without_rendering()
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text.figure is not None:
            yield text


def shown(figure: Figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("of", REPORTS)
def test_no_text_is_cut_off_or_lies_on_another(of: str) -> None:
    for name, plot in REPORTS[of].plots().items():
        whole = plot.figure.bbox
        held = [(text.get_text(), text.get_window_extent()) for text in texts(plot.figure)]
        # An axis keeps ticks outside its limits, which are not drawn.
        unseen = _unseen(plot.figure)
        held = [(said, box) for said, box in held if box.bounds not in unseen]
        for said, box in held:
            inside_it = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= whole.x1 + 1 and box.y1 <= whole.y1 + 1
            assert inside_it, f"{name}: {said!r} is cut off"
        for (one, a), (other, b) in combinations(held, 2):
            upright = "memory bandwidth" not in (one, other)
            apart = not _shrunk(a).overlaps(_shrunk(b)) if upright else _apart_from_slope(a, b, one)
            assert apart, f"{name}: {one!r} lies on {other!r}"


def _apart_from_slope(a, b, one: str) -> bool:
    """Of a text along a rising line only the diagonal of its box is taken."""
    slope, other = (a, b) if one == "memory bandwidth" else (b, a)
    steps = np.linspace(0.08, 0.92, 60)
    line = zip(slope.x0 + slope.width * steps, slope.y0 + slope.height * steps, strict=True)
    return not any(other.contains(x, y) for x, y in line)


def _shrunk(box):
    """A text's box without the room above and below its letters; a turned one by its middle only."""
    return box.padded(-0.12 * min(box.width, box.height))


def _unseen(figure: Figure) -> set[tuple[float, ...]]:
    """Places of ticks' labels that lie beyond the ends of the axis that they belong to."""
    found = set()
    for axis in figure.axes:
        for side, low, high in ((axis.xaxis, *axis.get_xlim()), (axis.yaxis, *axis.get_ylim())):
            for place, label in zip(side.get_ticklocs(), side.get_ticklabels(), strict=False):
                if not min(low, high) - 1e-9 <= place <= max(low, high) + 1e-9:
                    found.add(label.get_window_extent().bounds)
    return found


def test_a_full_report_has_every_plot_each_with_its_subject_and_its_machine() -> None:
    drawn = of_full()
    assert list(drawn) == NAMES
    for name, plot in drawn.items():
        said = " ".join(shown(plot.figure))
        assert "Apple M4 Pro" in said.replace("\n", " "), name
        assert "Qwen3-0.6B" in said, name
        assert plot.figure.get_suptitle() in plot.text
        assert all(axis.get_xlabel() for axis in plot.figure.axes), name


@pytest.mark.parametrize("name", NAMES)
def test_the_image_is_transparent_and_in_tones_that_read_on_light_and_dark(name: str) -> None:
    from PIL import Image

    plot: Plot = of_full()[name]
    image = np.asarray(Image.open(io.BytesIO(plot.png())).convert("RGBA")) / 255
    assert image[0, 0, 3] == 0
    assert image.shape[1] == 2 * 100 * 6.8
    for text in texts(plot.figure):
        for page in (1.0, 0.067):
            assert _contrast(text.get_color(), page) > 3, f"{text.get_text()} on {page}"


def _contrast(colour: str, page: float) -> float:
    """WCAG 2's contrast of a colour on a grey page."""
    from matplotlib.colors import to_rgb

    def light(rgb: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    a, b = light(to_rgb(colour)), light((page,) * 3)
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def test_lines_are_the_medians() -> None:
    figure = of_full()["rates"].figure
    [line] = figure.axes[1].get_lines()
    rates = [run.timings.decode_rate for run in FULL.of(3)]
    assert line.get_xdata()[-1] == 8192
    assert line.get_ydata()[-1] == pytest.approx(np.median(rates))


def test_a_distribution_holds_every_gap() -> None:
    """The areas are shares; the median's bar stands at the pooled median."""
    figure = single().plots()["gaps"].figure
    gaps = [gap for run in single().runs for gap in run.timings.itl]
    bars = [line.get_xdata() for line in figure.axes[0].get_lines()]
    assert bars[0][0] == pytest.approx(1e3 * np.median(gaps))
    assert any("n = 155 gaps" in said for said in shown(figure))


def test_what_was_not_measured_is_left_out() -> None:
    assert EMPTY.plots() == {}
    assert repr(EMPTY.plots()) == "nothing that could be plotted"
    assert list(single().plots()) == ["first-token", "gaps"]
    assert list(turns().plots()) == ["first-token", "gaps", "sweep-kv_bits"]
    report = turns(speed=1.3)
    assert "comparison" in replace(report, comparisons=comparisons(report)).plots()
    assert "memory" in replace(single(), samples=samples(single())).plots()


def test_one_token_each_has_a_first_token_and_no_gaps() -> None:
    report = single()
    runs = [replace(run, timings=replace(run.timings, token_times=run.timings.token_times[:1])) for run in report.runs]
    assert list(replace(report, runs=tuple(runs)).plots()) == ["first-token"]


def test_no_token_at_all_is_no_error() -> None:
    report = full()
    runs = tuple(replace(run, timings=replace(run.timings, token_times=())) for run in report.runs if run.timings)
    drawn = replace(report, runs=runs, roofline=None).plots()
    assert set(drawn) == {"token", "memory", "stress", "comparison", "throughput"}


def test_a_comparison_says_when_there_is_no_difference() -> None:
    report = turns(speed=1.0, seed=4)
    report = replace(report, comparisons=comparisons(report))
    assert any(said.startswith("no difference (") for said in shown(report.plots()["comparison"].figure))


def test_a_partial_report_says_so_in_each_caption() -> None:
    for plot in replace(FULL, partial="interrupted").plots().values():
        assert plot.text.endswith("partial")


def test_many_cases_are_cut_to_the_first_and_it_is_said() -> None:
    report = full()
    many = [replace(report.cases[0], label=f"case {i}") for i in range(30)]
    runs = [replace(run, case=i) for i in range(30) for run in report.of(0)]
    figure = replace(report, cases=tuple(many), runs=tuple(runs), roofline=None, findings=(), stress=()).plots()
    said = " ".join(shown(figure["first-token"].figure)).replace("\n", " ")
    assert "the first 12 of 30 cases" in said
    assert "case 11" in said
    assert "case 12" not in said


def test_they_show_themselves_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr("IPython.display.display", lambda *shown: seen.extend(shown))
    drawn = single().plots()
    drawn._ipython_display_()
    assert seen == list(drawn.values())
    assert isinstance(drawn, Plots)


def test_without_matplotlib_only_plots_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    with pytest.raises(BackendMissingError, match=r"plots\(\) needs Matplotlib.*pip install matplotlib"):
        FULL.plots()
    assert FULL.to_json()


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", [name for name in HOSTILE if "deep" not in name][::9])
def test_whatever_a_name_says_it_is_drawn_as_text(name: str) -> None:
    report = single()
    cases = (replace(report.cases[0], label=HOSTILE[name], scenario=HOSTILE[name]),)
    drawn = replace(report, cases=cases, models=(replace(MODEL, name=HOSTILE[name]),)).plots()
    assert all(len(plot.png()) > 1000 for plot in drawn.values())
