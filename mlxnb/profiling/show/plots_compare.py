"""Plots of one thing beside another: ratios with their intervals, and figures over a swept value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...render.plot import CYCLE, GREY, SIZE, Plot, literal, new_figure
from ...render.plot_labels import SMALL, ink, label_ends, name_rows
from ...render.text import shortened
from ..judge.figures import Spread, Summary
from ..report import Ratio, Report, Value
from ..report.turns import in_turns
from ..report.words import better, case_names, counted, figure_name, own_options, ratio_words, value_words
from .plots_context import DIRECT, caption, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = 20
SHOWN = ("decode_rate", "ttft", "throughput", "peak_memory")
COLOURS = {True: CYCLE[0], False: CYCLE[1], None: GREY}
Point = tuple[Value, Summary]


def comparison(report: Report) -> Plot | None:
    """Each ratio with its interval, a row a figure, around the line where nothing differs."""
    names = case_names(report)
    rows = [(f"{names[c.ours]}: {figure_name(r.figure)}", r) for c in report.comparisons for r in _shown(c.ratios)]
    if not rows:
        return None
    if len(rows) > ROWS:
        rows = [(name, ratio) for name, ratio in rows if ratio.figure == "decode_rate"][:ROWS] or rows[:ROWS]
    bases = list(dict.fromkeys(names[c.theirs] for c in report.comparisons))
    title = f"Compared with {bases[0]}" if len(bases) == 1 else "Compared with the first of each scenario"
    turns = all(in_turns(report, each) for each in report.comparisons)
    pairs = counted([ratio.pairs for _, ratio in rows], "pair" if turns else "round")
    said = caption(
        report,
        f"median and 95% interval of {pairs}, wider the more are compared",
        "blue better, orange worse, grey no difference",
    )
    return Plot(_forest(title, rows, said), f"{title}: {said}")


def _forest(title: str, rows: Sequence[tuple[str, Ratio]], said: str) -> Figure:
    figure, (axis,) = new_figure(shortened(title, 70), [""], "ratio (logarithmic)", "", said)
    figure.set_size_inches(SIZE[0], max(2.0, 1.35 + 0.29 * len(rows)))
    axis.axvline(1, color=GREY, linewidth=1)
    name_rows(axis, [name for name, _ in rows], 44)
    for row, (_, ratio) in enumerate(rows):
        colour = COLOURS[better(ratio)]
        axis.plot([ratio.low, ratio.high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
        axis.plot(ratio.median, row, "o", color=colour, markersize=5)
        axis.annotate(ratio_words(ratio), (1, row), xytext=(4, 0), xycoords=("axes fraction", "data"),
                      color=ink(colour), textcoords="offset points", va="center", fontsize=SMALL,
                      annotation_clip=False)  # fmt: skip
    ends = [1.0, *(ratio.low for _, ratio in rows), *(ratio.high for _, ratio in rows)]
    _log_ratios(axis, min(ends), max(ends))
    return figure


def _log_ratios(axis: Axes, low: float, high: float) -> None:
    """A logarithmic axis, on which half and twice lie equally far from 1, with ticks at round numbers."""
    low, high = min(low, 0.97), max(high, 1.03)
    reach = (high / low) ** 0.07
    axis.set_xscale("log")
    axis.set_xlim(low / reach, high * reach)
    steps: tuple[float, ...] = (1, 2, 5) if high < 300 * low else (1,)
    ticks = [step * 10.0**power for power in range(-4, 5) for step in steps]
    if high < 4 * low:
        apart = next((each for each in (0.05, 0.1, 0.2, 0.5) if (high - low) / each <= 6), 0.5)
        ticks = [k * apart for k in range(1, int(high / apart) + 2)]
    ticks = [tick for tick in ticks if low / reach <= tick <= high * reach]
    axis.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axis.minorticks_off()


def _shown(ratios: Sequence[Ratio]) -> list[Ratio]:
    return [ratio for name in SHOWN for ratio in ratios if ratio.figure == name and ratio.low > 0]


def swept(report: Report) -> tuple[str, ...]:
    """Fields that cases set to different values."""
    fields = dict.fromkeys(name for case in report.cases for name in case.varied)
    return tuple(field for field in fields if any(len(points) > 1 for points in _series(report, field).values()))


def sweep(report: Report, field: str) -> Plot | None:
    """Decode rate and time to first token over the values of a field, a line for each scenario and model."""
    series = {name: points for name, points in _series(report, field).items() if len(points) > 1}
    values = list(dict.fromkeys(value_words(value) for points in series.values() for value, _ in points))
    counts = [summary.n for points in series.values() for _, summary in points]
    said = caption(report, f"median and quartiles of {counted(counts, 'run')}")
    title = f"Speed by {field}"
    figure, axes = new_figure(title, ["Decode rate", "First token"], field, "decode rate (tok/s)", said)
    axes[1].set_ylabel("time to first token (ms)")
    for axis, pick, scale in zip(axes, (lambda s: s.decode_rate, lambda s: s.ttft), (1, 1e3), strict=True):
        ends = []
        for i, (name, points) in enumerate(series.items()):
            colour = CYCLE[i % len(CYCLE)]
            beside = (i - (len(series) - 1) / 2) * min(0.07, 0.4 / len(series))
            held = [(values.index(value_words(value)) + beside, pick(s)) for value, s in points if pick(s) is not None]
            if not held:
                continue
            _marks(axis, held, scale, colour, name)
            ends.append((held[-1][0], held[-1][1].median * scale, shortened(name, 18), colour))
        axis.set_xticks(range(len(values)), [literal(shortened(value, 14)) for value in values])
        axis.set_xlim(-0.35, len(values) - 0.65)
        axis.set_ylim(0, axis.get_ylim()[1] * 1.08)
        if 1 < len(series) <= DIRECT:
            label_ends(axis, ends)
        elif len(series) > DIRECT:
            legend(axis)
    return Plot(figure, f"{title}: {said}")


def _marks(axis: Axes, held: list[tuple[float, Spread]], scale: float, colour: str, name: str) -> None:
    """Medians joined by a thin line, quartiles as bars."""
    xs, middle = [x for x, _ in held], [s.median * scale for _, s in held]
    low = [(s.median - s.low) * scale for _, s in held]
    high = [(s.high - s.median) * scale for _, s in held]
    axis.errorbar(xs, middle, [low, high], color=colour, marker="o", markersize=5, linewidth=1, elinewidth=2.2,
                  capsize=3, label=literal(shortened(name, 30)))  # fmt: skip


def _series(report: Report, field: str) -> dict[str, list[Point]]:
    """Values of the field with their figures, by scenario, model and whatever else was swept."""
    found: dict[str, list[Point]] = {}
    several = len({model.name for model in report.models}) > 1
    for i, case in enumerate(report.cases):
        summary = Summary.of(report, i)
        if field not in case.varied or case.model is None or summary.ttft is None:
            continue
        others = [f"{name}={value_words(value)}" for name, value in own_options(case).items() if name != field]
        # By name: what a swept dtype or backend loads is another model in the report.
        model = [report.models[case.model].name] if several and field != "model" else []
        clients = [f"× {case.concurrency}"] if case.concurrency > 1 else []
        found.setdefault(", ".join([case.scenario, *model, *others, *clients]), []).append(
            (case.varied[field], summary)
        )
    return found
