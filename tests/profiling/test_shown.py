"""How a report is shown: HTML, text and Markdown say the same, whatever a name holds stays text."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt

from mlxnb.errors import ReportError
from mlxnb.profiling.judge.compare import against, comparisons
from mlxnb.profiling.report import Finding, OtherModel, Recommendation, Report
from mlxnb.profiling.show.markdown import code, escaped, to_markdown
from mlxnb.render.text import one_row

from ..render.hostile import ALL, HIT
from .whole_reports import EMPTY, ENVIRONMENT, MODEL, full, single, turns

FULL = full()
MODELS = (("a", "4-bit"), ("b", "8-bit"))
SHORT = full(runs=1)
BUNDLE = FULL._repr_mimebundle_()
TEXT, HTML = BUNDLE["text/plain"], BUNDLE["text/html"]
SECTIONS = [
    "Figures", "What limits it", "Could not be measured", "Compared in turns", "Time inside a token", "Roofline",
    "Stress", "Recommended settings", "Other models for this memory", "Machine, versions and models",
]  # fmt: skip
OWN_TAGS = {
    "div", "style", "span", "h4", "hr", "table", "thead", "tbody", "tr", "th", "td", "strong", "code", "details",
    "summary",
}  # fmt: skip
OWN_ATTRIBUTES = {"class", "scope", "style", "aria-hidden"}


def with_text(value: Any, text: str) -> Any:
    """`value` with every string in it replaced."""
    if isinstance(value, str):
        return text
    if is_dataclass(value) and not isinstance(value, type):
        kept = {"phase", "unit", "figure", "began"}  # words of our own, and a time
        changed = {f.name: with_text(getattr(value, f.name), text) for f in fields(value) if f.name not in kept}
        return replace(value, **changed)
    if isinstance(value, dict) and set(value) <= {"ttft", "tpot", "total"}:
        return value  # limits
    if isinstance(value, dict):
        return {with_text(key, text) if isinstance(key, str) else key: with_text(v, text) for key, v in value.items()}
    return tuple(with_text(each, text) for each in value) if isinstance(value, tuple) else value


def soup(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


def rendered(markdown: str) -> BeautifulSoup:
    """Markdown as GitHub's tables and HTML would come out, raw HTML on."""
    return soup(MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough").render(markdown))


def test_all_three_have_every_section_in_the_same_order() -> None:
    headings = [h.text for h in soup(HTML).select("h4, summary") if not h.text.endswith("more row")]
    assert headings == ["Profile of Qwen3-0.6B", *SECTIONS]
    assert [line for line in TEXT.split("\n") if line in {s.upper() for s in SECTIONS}] == [s.upper() for s in SECTIONS]
    page = rendered(FULL.to_markdown())
    assert [h.text for h in page.select("h2, summary")] == SECTIONS
    assert page.h1.text == "Profile of Qwen3-0.6B"


def test_figures_are_those_of_the_runs() -> None:
    table = soup(HTML).select_one("table")
    head = [cell.text for cell in table.select("thead th")]
    row = dict(zip(head, [cell.text for cell in table.select("tbody tr")[1].select("td")], strict=True))
    rates = sorted(run.timings.decode_rate for run in FULL.of(1))
    assert row["case"] == "512 tokens"
    assert row["decode tok/s"] == f"{rates[2]:.3g}"
    assert row["n"] == "5"
    assert "accepted %" not in row
    assert "failed" not in row
    beside = [cell.text for cell in soup(HTML).select("table")[1].select("thead th")]
    assert beside == ["case", "peak memory MB", "process memory MB", "energy mJ/token", "goodput /s"]


def test_what_could_not_be_measured_is_told_with_its_reason() -> None:
    for shown in (TEXT, HTML, FULL.to_markdown()):
        assert "1 of 1 failed" in shown
        assert "the context holds 40 960." in shown
        assert "no model is called unknown." in shown


def test_a_finding_has_its_evidence_remedy_and_how_to_try_it() -> None:
    item = soup(HTML).select(".mlxnb-item")[0]
    assert item.text.startswith("● 1 memory-bound · 8192 tokens")
    assert "figure: MBU: 83.7%, where the threshold is 60%" in item.text
    assert [code.text for code in item.select("code")] == ["%profile_model --try 1", "%%generate --quantize int8"]
    tried = soup(HTML).select(".mlxnb-item")[1]
    assert "tried, KV cache in 8 bits: decode rate 1.12× (1.08–1.15) of 5 pairs" in tried.text
    assert [code.text for code in tried.select("code")] == ["--kv-bits 8"]
    assert "1.2 kB" in soup(HTML).select(".mlxnb-item")[2].text
    assert "- *try it*: weights in int8, against this: `%profile_model --try 1`" in FULL.to_markdown()


def test_an_option_that_no_cell_takes_is_not_said_to_be_kept() -> None:
    trial = replace(FULL.findings[0].trial, options={"draft": None, "kernels": True})
    shown = replace(FULL, findings=(replace(FULL.findings[0], trial=trial),))._repr_mimebundle_()["text/plain"]
    assert "--try 1" in shown
    assert "%%generate" not in shown


def test_nothing_found_is_told_as_such() -> None:
    nothing = Finding("nothing-found", None, "rules", 9, 9, "rules", "looked at: swap", "no figure crossed", "Nothing.")
    shown = soup(replace(FULL, findings=(nothing,))._repr_mimebundle_()["text/html"]).select_one(".mlxnb-item")
    assert shown.text.startswith("● nothing found")
    assert shown.select(".mlxnb-success")


def test_time_inside_a_token_adds_up_and_tells_what_the_waits_cost() -> None:
    assert "6.24 ms with a wait after each part, 5.05 ms without: the waits add 23%" in TEXT
    shares = [float(m) for m in re.findall(r"^(?:\S.*?)\s+[\d.]+\s+([\d.]+)  ━", TEXT, flags=re.M)]
    assert sum(shares) == pytest.approx(200, abs=0.5)  # of two looks
    widths = [div["style"] for div in soup(HTML).select(".mlxnb-bar > div")]
    assert widths[0] == "width:100.0%"
    assert len(widths) == 14
    busy = replace(FULL, insides=(replace(FULL.insides[0], free=0.01),))
    assert "the machine was disturbed" in busy._repr_mimebundle_()["text/plain"]


def test_goals_with_the_same_advice_are_one_row() -> None:
    same = [Recommendation("chat", goal, {"temperature": 0.7}, "none", "x") for goal in ("speed", "quality")]
    shown = replace(FULL, recommendations=tuple(same))._repr_mimebundle_()["text/plain"]
    assert "speed, quality" in shown
    assert shown.count("--temperature 0.7") == 1


def test_a_partial_report_says_so_at_the_top_of_each() -> None:
    report = replace(FULL, partial="interrupted in run 3 of 5")
    bundle = report._repr_mimebundle_()
    assert "\nPartial: interrupted in run 3 of 5\n" in bundle["text/plain"][:300]
    assert soup(bundle["text/html"]).select_one(".mlxnb-warn").text == "Partial: interrupted in run 3 of 5"
    assert "> **Partial: interrupted in run 3 of 5**" in report.to_markdown()[:300]


def test_an_empty_report_is_shown_too() -> None:
    bundle = EMPTY._repr_mimebundle_()
    assert "Partial: interrupted before the first request" in bundle["text/plain"]
    assert "FIGURES" not in bundle["text/plain"]
    assert EMPTY.to_markdown().startswith("# Profile\n")


def test_the_small_print_is_folded() -> None:
    folded = soup(HTML).select_one("details.mlxnb-folded")
    assert not folded.has_attr("open")
    assert "low power mode" in folded.text
    assert MODEL.revision in folded.text
    assert "<details>\n<summary>Machine" in FULL.to_markdown()


def test_one_style_sheet_for_all_tables() -> None:
    assert HTML.count("<style>") == 1
    assert len(HTML) < 40_000


@pytest.mark.parametrize("name", ALL)
def test_whatever_stands_in_a_report_stays_text(name: str) -> None:
    text = ALL[name]
    report = with_text(SHORT, text)
    bundle = report._repr_mimebundle_()
    page = soup(bundle["text/html"])
    assert {tag.name for tag in page.find_all(True)} <= OWN_TAGS
    assert {attribute for tag in page.find_all(True) for attribute in tag.attrs} <= OWN_ATTRIBUTES
    styles = {tag["style"] for tag in page.find_all(style=True)}
    assert all(re.fullmatch(r"width:[\d.]+%", style) for style in styles)
    assert "\x1b" not in bundle["text/plain"]
    shown = rendered(report.to_markdown())
    own = OWN_TAGS | {"h1", "h2", "p", "em", "ul", "li", "blockquote"}
    assert {tag.name for tag in shown.find_all(True)} <= own
    assert not [a for tag in shown.find_all(True) for a in tag.attrs if a not in ("style", "class")]


@pytest.mark.parametrize(
    "text", ["a | b", "`a` ``b``", "*x* _y_ [z](http://a)", "<b>x</b>", "$x$ ~~y~~", "\\| &lt;", "#1"]
)
def test_markdown_shows_a_text_as_it_is(text: str) -> None:
    assert rendered(f"- {escaped(text)}").li.text.strip() == one_row(text)
    assert rendered(code(text)).code.text == one_row(text)
    row = rendered(f"| a | b |\n| --- | --- |\n| {escaped(text)} | 1 |").select("td")
    assert [cell.text for cell in row] == [one_row(text), "1"]


def test_tables_of_markdown_have_as_many_cells_in_each_row_and_numbers_on_the_right() -> None:
    page = rendered(with_text(FULL, "a|b").to_markdown())
    for table in page.select("table"):
        assert len({len(row.select("th, td")) for row in table.select("tr")}) == 1
    first = rendered(FULL.to_markdown()).select("table")[0]
    assert first.select("td")[1]["style"] == "text-align:right"
    assert "style" not in first.select("td")[0].attrs


def test_pictures_stand_in_their_sections() -> None:
    shown = to_markdown(FULL, {"roofline": "roofline.png", "gaps": "gaps.png"})
    assert shown.index("## Figures") < shown.index("![gaps](gaps.png)") < shown.index("## What limits it")
    assert shown.index("## Roofline") < shown.index("![roofline](roofline.png)") < shown.index("## Stress")


def compared(speed: float) -> Report:
    report = turns(speed=speed)
    return replace(report, comparisons=comparisons(report))


def test_a_comparison_without_a_difference_is_one_row_that_says_equal() -> None:
    ratios = [replace(ratio, low=0.9, high=1.1) for ratio in compared(1.0).comparisons[0].ratios]
    report = replace(turns(), comparisons=(replace(compared(1.0).comparisons[0], ratios=tuple(ratios)),))
    text = report._repr_mimebundle_()["text/plain"]
    assert "every figure  ● equal" in text
    assert "inside the spread, 0.90–1.10 at most" in text
    assert "● better" in compared(1.5)._repr_mimebundle_()["text/plain"]
    assert "● worse" in compared(0.5)._repr_mimebundle_()["text/plain"]


def test_against_says_equal_or_what_differs_and_what_changed() -> None:
    same = against(single(seed=1), single(seed=2))._repr_mimebundle_()
    assert "● equal\n  No figure lies outside the spread of both reports." in same["text/plain"]
    assert "WHAT CHANGED" not in same["text/plain"]
    environment = replace(ENVIRONMENT, versions={**ENVIRONMENT.versions, "mlx": "0.33.0"}, settings={"threads": 4})
    found = against(replace(single(speed=1.4), environment=environment, partial="interrupted"), single(seed=1))
    shown = found._repr_mimebundle_()
    assert "● different" in shown["text/plain"]
    assert "this report is not whole" in shown["text/plain"]
    assert re.search(r"mlx +0\.32\.4 +0\.33\.0", shown["text/plain"])
    assert re.search(r"power +plugged in +not there", shown["text/plain"])
    none = against(single(), EMPTY)._repr_mimebundle_()["text/plain"]
    assert "nothing to compare" in none
    assert re.search(r"simple +this", none)


def test_a_report_is_held_against_a_file_too(tmp_path: Path) -> None:
    report, earlier = single(seed=1), single(seed=2)
    (tmp_path / "report.json").write_text(earlier.to_json())
    for given in (earlier, tmp_path, str(tmp_path), tmp_path / "report.json"):
        assert report.against(given) == against(report, earlier)
    with pytest.raises(ReportError, match="There is no report at"):
        report.against(tmp_path / "nowhere")


def test_printed_it_reads_and_among_others_it_takes_one_line() -> None:
    assert str(FULL) == FULL._repr_mimebundle_()["text/plain"]
    assert repr(FULL).startswith("<Profile of Qwen3-0.6B · ")
    assert "\n" not in repr(FULL)
    assert len(repr(FULL)) < 200
    assert "Partial: interrupted" in repr(replace(FULL, partial="interrupted"))


def test_against_is_safe_too() -> None:
    text = ALL["html: script"]
    found = against(with_text(single(speed=1.5), text), with_text(single(), "x"))
    page = soup(found._repr_mimebundle_()["text/html"])
    assert {tag.name for tag in page.find_all(True)} <= OWN_TAGS
    assert HIT in page.text


def test_equal_says_what_would_not_have_shown() -> None:
    """Three noisy runs are equal to anything: who reads the word alone would take a factor of two for nothing."""
    few = against(single(rounds=3, noise=0.2, seed=1), single(rounds=3, noise=0.2, seed=2))
    assert few.equal
    assert "would not have shown: more --runs tell" in few._repr_mimebundle_()["text/plain"]
    many = against(single(rounds=30, noise=0.01, seed=1), single(rounds=30, noise=0.01, seed=2))
    assert many.equal
    assert "would not have shown" not in many._repr_mimebundle_()["text/plain"]


def test_what_holds_for_all_other_models_is_said_once() -> None:
    others = tuple(OtherModel(name, 10**9, "fits", 9.0, f"{bits}, at most, with all") for name, bits in MODELS)
    text = replace(single(), others=others)._repr_mimebundle_()["text/plain"]
    assert text.count("at most, with all") == 1
    assert re.search(r"Predicted: at most, with all\n.*\n.*\na .* 4-bit\nb .* 8-bit", text)
    differing = (others[0], replace(others[1], note="8-bit, at the MBU of 70%"))
    text = replace(single(), others=differing)._repr_mimebundle_()["text/plain"]
    assert "4-bit, at most, with all" in text
    assert "8-bit, at the MBU of 70%" in text
