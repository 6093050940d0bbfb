"""What a report says from top to bottom, as tables and items that a notebook, a terminal and Markdown show alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..render.cells import Cell, Dot
from ..render.numbers import count, duration, plural, significant, size
from ..render.table import Table
from ..request import option_fields
from .report import Finding, Ratio, Report, Value
from .sections_machine import machine_tables
from .sections_speed import figures_tables, inside_tables, roofline_tables, unmeasured_table
from .words import better, case_names, figure_name, flags, model_words, ratio_words

NOTHING = "nothing-found"
INTERVAL = "a 95% interval of it, wider the more figures are compared"
SPEED = ("rates", "throughput", "first-token", "gaps")  # plots that show the figures
# Options of %%generate that are no fields of a Request or Sampling.
OF_A_CELL = ("backend", "cache", "draft", "dtype", "quantize")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an item: text, with `label` before it in small and code to copy after it."""

    text: str
    label: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """Something with several things to say of it, such as a finding: its state or its name, and what it is about."""

    state: Dot | str
    where: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with items and tables under it; `plots` names those that show the same. `folded` hides it at first,
    `beside` puts its tables side by side where there is room.
    """

    title: str
    tables: tuple[Table, ...] = ()
    items: tuple[Item, ...] = ()
    plots: tuple[str, ...] = ()
    folded: bool = False
    beside: bool = False


@dataclass(frozen=True, slots=True)
class Head:
    """The top of a report: what it is of, how it came to be, and why it is not whole if it is not."""

    title: str
    line: tuple[str, ...]
    partial: str


def head(report: Report) -> Head:
    """What was profiled, on what, when and for how long."""
    names = list(dict.fromkeys(model.name for model in report.models))
    answered = sum(run.timings is not None for run in report.runs)
    line = (
        *(model_words(model) for model in report.models[:1] if len(report.models) == 1),
        report.environment.chip,
        plural(answered, "run"),
        f"{plural(report.warmup, 'warm-up')} a case",
        duration(report.seconds),
        report.began.replace("T", " ")[:16] + " UTC",
    )
    partial = f"Partial: {report.partial}" if report.partial else ""
    return Head(f"Profile of {', '.join(names)}" if names else "Profile", line, partial)


def sections(report: Report) -> tuple[Section, ...]:
    """Everything that was measured and judged, the answer first and the small print last."""
    tables = roofline_tables(report)
    found = (
        Section("Figures", figures_tables(report), plots=(*SPEED, *_sweeps(report))),
        Section("What limits it", items=tuple(_finding(report, i) for i in range(len(report.findings)))),
        Section("Could not be measured", _some(unmeasured_table(report))),
        Section("Compared in turns", _some(_comparisons(report)), plots=("comparison",)),
        Section("Time inside a token", inside_tables(report), plots=("token",), beside=True),
        Section("Roofline", tables, plots=("roofline", "predicted")),
        Section("Stress", _some(_stress(report)), plots=("stress",)),
        Section("Recommended settings", items=_recommendations(report), folded=not _gains(report)),
        Section("Other models for this memory", _some(_others(report))),
        Section("Notes", _some(_notes(report))),
        Section("Machine, versions and models", machine_tables(report), plots=("memory",), folded=True),
    )
    return tuple(section for section in found if section.tables or section.items)


def _some(table: Table | None) -> tuple[Table, ...]:
    return (table,) if table is not None else ()


def _sweeps(report: Report) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"sweep-{name}" for case in report.cases for name in case.varied))


def _finding(report: Report, index: int) -> Item:
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
        said = f"{figure_name(found.tried.figure)} {ratio_words(found.tried)} of {pairs}"
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


def _comparisons(report: Report) -> Table | None:
    if not any(each.ratios for each in report.comparisons):
        return None
    names = case_names(report)
    pairs = [(names[each.ours], names[each.theirs], each.ratios) for each in report.comparisons]
    return ratios_table(pairs, f"Ratios pair by pair: the median, and {INTERVAL}")


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
            said = f"inside the spread, {widest.low:.2f}–{widest.high:.2f} at most"
            rows.append((ours, theirs, named, Dot("off", "equal"), said, min(ratio.pairs for ratio in equal)))
    columns = ("case", "beside", "figure", "outcome", "ratio", "n")
    return without_empty(Table(columns, rows, bold="case", caption=caption))


def _outcome(ratio: Ratio) -> Dot:
    return Dot("success", "better") if better(ratio) else Dot("warning", "worse")


def _stress(report: Report) -> Table | None:
    if not report.stress:
        return None
    names = case_names(report)
    rows = [
        (
            names[each.case],
            Dot("success" if each.verdict.startswith("no") else "warning", each.verdict),
            100 * each.confidence if each.confidence else None,
            each.growth / 1e3 if each.confidence else None,
            f"{significant(each.low / 1e3)} to {significant(each.high / 1e3)}".replace("-", "−")
            if each.confidence
            else None,
            100 * each.decline,
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


def _gains(report: Report) -> bool:
    """Whether anything was measured that a recommendation rests on."""
    return any(not each.gain.startswith("none measured") for each in report.recommendations)


def _recommendations(report: Report) -> tuple[Item, ...]:
    """What is the same for several goals is said once."""
    goals: dict[tuple[str, str, str, str], list[str]] = {}
    for each in report.recommendations:
        goals.setdefault((each.use, flags(each.options), each.gain, each.reason), []).append(each.goal)
    return tuple(
        Item(use, ", ".join(of), (Line("", "options", options), Line(gain, "gain"), Line(reason, "why")))
        for (use, options, gain, reason), of in goals.items()
    )


def _others(report: Report) -> Table | None:
    rows = [(each.name, each.weights / 1e9, each.fits, each.decode_rate, each.note) for each in report.others]
    columns = ("model", ("weights", "GB"), "fits", ("decode, predicted", "tok/s"), "note")
    return without_empty(Table(columns, rows, bold="model")) if rows else None


def _notes(report: Report) -> Table | None:
    of_cases = [f"{case.label}: {note}" for case in report.cases for note in case.notes]
    notes = dict.fromkeys([*report.notes, *of_cases, *(note for run in report.runs for note in run.notes)])
    counted = {note: sum(note in run.notes for run in report.runs) for note in notes}
    rows = [(note, count(counted[note]) if counted[note] else "") for note in notes]
    return without_empty(Table(("note", "runs"), rows)) if rows else None


def without_empty(table: Table) -> Table:
    """The table without the columns in which nothing stands."""
    if not table.rows:
        return table
    kept = [i for i in range(len(table.columns)) if any(row[i] not in (None, "") for row in table.rows)]
    rows = [tuple(row[i] for i in kept) for row in table.rows]
    return Table([table.columns[i] for i in kept], rows, bold=table.bold, caption=table.caption)
