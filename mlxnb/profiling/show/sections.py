"""What a report says from top to bottom, as tables and items that a notebook, a terminal and Markdown show alike."""

from __future__ import annotations

from collections.abc import Iterator

from ...render.numbers import count, duration, plural
from ...render.table import Table
from ..report import Report
from ..report.words import flags, model_words
from .sections_compared import comparisons_table, stress_table
from .sections_judged import any_gain, finding_item, others_table, recommended_items
from .sections_machine import machine_tables
from .sections_parts import Head, Section, without_empty
from .sections_speed import figures_tables, inside_tables, roofline_tables, unmeasured_table

LIMITS = "What limits it"
SPEED = ("rates", "throughput", "first-token", "gaps")  # plots that show the figures


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
        Section(LIMITS, items=tuple(finding_item(report, i) for i in range(len(report.findings)))),
        Section("Could not be measured", _some(unmeasured_table(report))),
        *_compared(report),
        Section("Time inside a token", inside_tables(report), plots=("token",), beside=True),
        Section("Roofline", tables, plots=("roofline", "predicted")),
        Section("Stress", _some(stress_table(report)), plots=("stress",)),
        Section("Recommended settings", items=recommended_items(report), folded=not any_gain(report)),
        Section("Other models for this memory", _some(others_table(report))),
        Section("Notes", _some(_notes(report))),
        Section("Machine, versions and models", machine_tables(report), plots=("memory",), folded=True),
    )
    return tuple(section for section in found if section.tables or section.items)


def _compared(report: Report) -> Iterator[Section]:
    """Cases that took turns, and those of which one ran behind the other; the plot stands with the first of the two."""
    plots: tuple[str, ...] = ("comparison",)
    for title, turns in (("Compared in turns", True), ("Compared one after the other", False)):
        table = comparisons_table(report, turns)
        if table is not None:
            yield Section(title, (table,), plots=plots)
            plots = ()


def _some(table: Table | None) -> tuple[Table, ...]:
    return (table,) if table is not None else ()


def _sweeps(report: Report) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"sweep-{name}" for case in report.cases for name in case.varied))


def _notes(report: Report) -> Table | None:
    of_cases = [f"{case.label}: {note}" for case in report.cases for note in case.notes]
    asked = [f"every request was asked with {flags(report.options)}"] if report.options else []
    notes = dict.fromkeys([*asked, *report.notes, *of_cases, *(note for run in report.runs for note in run.notes)])
    counted = {note: sum(note in run.notes for run in report.runs) for note in notes}
    rows = [(note, count(counted[note]) if counted[note] else "") for note in notes]
    return without_empty(Table(("note", "runs"), rows)) if rows else None
