"""Ratios as they are shown, of cases in turns and of two reports; and what a stress came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...render.cells import Cell, Dot, Kind
from ...render.numbers import significant
from ...render.table import Table
from ..report import Ratio, Report
from ..report.beside import HOLDS, UNSEEN
from ..report.turns import in_turns
from ..report.words import better, case_names, figure_name, ratio_words, times
from .sections_parts import without_empty

PAIRED = "Ratios pair by pair: the median"
UNPAIRED = (
    "One case ran behind the other, so that what the machine did meanwhile counts too (--compare takes turns): "
    "the ratio of the medians"
)
INTERVAL = "a 95% interval of it, wider the more figures are compared · equal: nothing that these runs could tell"

DOTS: Mapping[str, Kind] = {HOLDS: "success", UNSEEN: "off"}


def comparisons_table(report: Report, turns: bool) -> Table | None:
    """The comparisons of cases that took turns, or of those of which one ran behind the other."""
    names = case_names(report)
    found = [each for each in report.comparisons if each.ratios and in_turns(report, each) == turns]
    if not found:
        return None
    pairs = [(names[each.ours], names[each.theirs], each.ratios) for each in found]
    return ratios_table(pairs, f"{PAIRED if turns else UNPAIRED}, and {INTERVAL}")


def ratios_table(pairs: Sequence[tuple[str, str, Sequence[Ratio]]], caption: str) -> Table:
    """A row for each ratio that differs, and one for the rest of a case, which then are equal."""
    rows: list[tuple[Cell, ...]] = []
    for ours, other, ratios in pairs:
        theirs = other if other != ours else None
        differing = [ratio for ratio in ratios if ratio.differs]
        equal = [ratio for ratio in ratios if not ratio.differs]
        for ratio in differing:
            rows.append((ours, theirs, figure_name(ratio.figure), _outcome(ratio), ratio_words(ratio), ratio.pairs))
        if equal:
            widest = max(equal, key=lambda ratio: ratio.high - ratio.low)
            named = "every figure" if not differing else ", ".join(figure_name(ratio.figure) for ratio in equal)
            said = f"inside the spread, {times(widest.low)}–{times(widest.high)} at most"
            rows.append((ours, theirs, named, Dot("off", "equal"), said, min(ratio.pairs for ratio in equal)))
    columns = ("case", "beside", "figure", "outcome", "ratio", "n")
    return without_empty(Table(columns, rows, bold="case", caption=caption))


def _outcome(ratio: Ratio) -> Dot:
    return Dot("success", "better") if better(ratio) else Dot("warning", "worse")


def stress_table(report: Report) -> Table | None:
    if not report.stress:
        return None
    names = case_names(report)
    rows = [
        (
            names[each.case],
            Dot(DOTS.get(each.verdict, "warning"), each.verdict),
            100 * each.confidence if each.confidence else None,
            each.growth / 1e3 if each.confidence else None,
            f"{significant(each.low / 1e3)} to {significant(each.high / 1e3)}" if each.confidence else None,
            None if each.decline is None else 100 * each.decline,
            None if each.fragmentation is None else 100 * each.fragmentation,
            each.requests,
            each.seconds,
            each.ended,
        )
        for each in report.stress
    ]
    columns = (
        "case", "memory", ("sure", "%"), ("growth", "kB a request"), ("95% interval", "kB"), ("rate lost", "%"),
        ("free but held", "%"), "requests", ("time", "s"), "ended by",
    )  # fmt: skip
    return without_empty(Table(columns, rows, bold="case"))
