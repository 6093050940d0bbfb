"""What was judged, as it is shown: findings with their remedies, recommended settings, other models."""

from __future__ import annotations

from collections.abc import Mapping

from ...render.cells import Dot
from ...render.numbers import plural, significant, size
from ...render.table import Table
from ...request import option_fields
from ..report import Finding, Report, Value
from ..report.words import before_and_after, case_names, figure_name, flags, ratio_words
from .sections_parts import Item, Line, without_empty

NOTHING = "nothing-found"
# Options of %%generate that are no fields of a Request or Sampling.
OF_A_CELL = ("backend", "cache", "draft", "dtype", "quantize")


def finding_item(report: Report, index: int) -> Item:
    found = report.findings[index]
    if found.rule == NOTHING:
        said = (Line(found.evidence), Line(found.cause), Line(found.remedy))
        return Item(Dot("success", "nothing found"), "", said)
    where = case_names(report)[found.case] if found.case is not None else "the whole profile"
    value, threshold = (_value(number, found.unit) for number in (found.value, found.threshold))
    lines = (
        Line(found.evidence, "measured"),
        Line(f"{figure_name(found.figure)}: {value}, where the threshold is {threshold}", "figure"),
        Line(found.cause, "meaning"),
        Line(found.remedy, "to do"),
        *_trial(found, index),
    )
    return Item(Dot("warning", f"{index + 1} {found.rule}"), where, lines)


def _value(value: float, unit: str) -> str:
    if unit == "bytes":
        return size(value)
    unit = unit.removesuffix("s") if value == 1 else unit
    return f"{significant(100 * value)}%" if unit == "share" else f"{significant(value)} {unit}".strip()


def _trial(found: Finding, index: int) -> tuple[Line, ...]:
    """How to measure the remedy here and now, or what that gave."""
    if found.tried is not None:
        pairs = plural(found.tried.pairs, "pair")
        said = f"{figure_name(found.tried.figure)} {ratio_words(found.tried)} of {pairs}{before_and_after(found)}"
        return (Line(said, "tried" + (f", {found.trial.label}" if found.trial is not None else "")),)
    if found.trial is None:
        return ()
    return (
        Line(f"{found.trial.label}, against this:", "try it", f"%profile_model --try {index + 1}"),
        *([Line("", "keep it", f"%%generate {flags(found.trial.options)}")] if _kept(found.trial.options) else []),
    )


def _kept(options: Mapping[str, Value]) -> bool:
    """Whether a cell takes these options as they stand."""
    return bool(options) and {*options} <= {*option_fields(), *OF_A_CELL} and None not in options.values()


def recommended_items(report: Report) -> tuple[Item, ...]:
    """What is the same for several goals is said once."""
    goals: dict[tuple[str, str, str, str], list[str]] = {}
    for each in report.recommendations:
        goals.setdefault((each.use, flags(each.options), each.gain, each.reason), []).append(each.goal)
    return tuple(
        Item(use, ", ".join(of), (Line("", "options", options), Line(gain, "gain"), Line(reason, "why")))
        for (use, options, gain, reason), of in goals.items()
    )


def any_gain(report: Report) -> bool:
    """Whether anything was measured that a recommendation rests on."""
    return any(not each.gain.startswith("none measured") for each in report.recommendations)


def others_table(report: Report) -> Table | None:
    notes = [each.note for each in report.others]
    # What comes after the precision is said once where it is the same of all.
    same = {note.partition(", ")[2] for note in notes}
    caption = f"Predicted: {same.pop()}" if len(same) == 1 and "" not in same else ""
    notes = [note.partition(", ")[0] for note in notes] if caption else notes
    rows = [
        (each.name, each.weights / 1e9, each.fits, each.decode_rate, note)
        for each, note in zip(report.others, notes, strict=True)
    ]
    columns = ("model", ("weights", "GB"), "fits", ("decode, predicted", "tok/s"), "note")
    return without_empty(Table(columns, rows, bold="model", caption=caption)) if rows else None
