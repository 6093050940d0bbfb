"""The tables of speed and memory: figures by case, time inside a token, the roofline."""

from __future__ import annotations

from collections.abc import Sequence

from ...render.cells import Bar, Cell, Dot
from ...render.numbers import count, duration, significant
from ...render.table import Table
from ..judge.figures import Spread, Summary
from ..report import Inside, Report, Roofline
from ..report.by_part import by_part
from ..report.words import case_names, counted, limits_words, model_names, part_name

SPEED: tuple[str | tuple[str, str], ...] = (
    "case", ("prompt", "tokens"), ("queue", "ms"), ("first token", "ms"), ("first visible", "ms"),
    ("prefill", "tok/s"), ("decode", "tok/s"), ("spread", "%"), ("drift", "%"), ("gap p95", "ms"),
    ("throughput", "tok/s"), "n", "failed",
)  # fmt: skip
BESIDE: tuple[str | tuple[str, str], ...] = (
    "case", ("peak memory", "MB"), ("process memory", "MB"), ("energy", "mJ/token"), ("accepted", "%"),
    ("by position", "%"), ("reused", "tokens"), ("goodput", "/s"),
)  # fmt: skip

POSITIONS = 6  # of a draft's guesses that are shown


def figures_tables(report: Report) -> tuple[Table, ...]:
    """A row a case with its medians, of speed and then of memory and the rest; what no case has is left out."""
    several = any(case.concurrency > 1 for case in report.cases)
    summaries = [Summary.of(report, i) for i in range(len(report.cases))]
    held = [(name, each) for name, each in zip(case_names(report), summaries, strict=True) if each.n]
    waited = {name for name, case in zip(case_names(report), report.cases, strict=True) if case.concurrency > 1}
    counts = [each.n for _, each in held]
    speed = f"Medians of {counted(counts, 'run')} · spread: between the quartiles of the decode rate"
    if any(each.drift is not None for _, each in held):
        speed += " · drift: its last third of rounds over the first"
    beside = "Memory: the largest of all runs"
    if report.limits:
        beside += f" · goodput: requests a second within {limits_words(report.limits)}"
    tables = (
        _with_figures(SPEED, [_speed(name, each, several, name in waited) for name, each in held], speed),
        _with_figures(BESIDE, [_beside(name, each) for name, each in held], beside),
    )
    return tuple(table for table in tables if len(table.columns) > 1)


def _with_figures(columns: Sequence[str | tuple[str, str]], rows: list[tuple[Cell, ...]], caption: str) -> Table:
    """A table of the columns in which a figure stands."""
    kept = [k for k in range(len(columns)) if any(row[k] is not None for row in rows)]
    shown = [tuple(row[k] for k in kept) for row in rows]
    return Table([columns[k] for k in kept], shown, bold="case" if kept else None, caption=caption)


def _speed(name: str, s: Summary, several: bool, together: bool) -> tuple[Cell, ...]:
    return (
        name,
        None if s.prompt_tokens is None else round(s.prompt_tokens.median),
        _middle(s.queue, 1e3) if together else None,
        _middle(s.ttft, 1e3),
        _middle(s.visible, 1e3) if _thinks(s) else None,
        _middle(s.prefill_rate),
        _middle(s.decode_rate),
        round(100 * s.decode_rate.relative, 1) if s.decode_rate is not None and s.decode_rate.n > 1 else None,
        round(100 * (s.drift.median - 1), 1) if s.drift is not None else None,
        1e3 * s.itl.p95 if s.itl is not None and s.itl.p95 is not None else None,
        _middle(s.throughput) if several else None,
        s.n,
        s.failed or None,
    )


def _thinks(s: Summary) -> bool:
    """Whether the first token that is seen is not the first one."""
    return s.visible is not None and s.ttft is not None and s.visible.median > s.ttft.median


def _beside(name: str, s: Summary) -> tuple[Cell, ...]:
    return (
        name,
        s.peak_memory / 1e6 if s.peak_memory else None,
        s.peak_rss / 1e6 if s.peak_rss else None,
        1e3 * s.energy if s.energy is not None else None,
        100 * s.acceptance if s.acceptance is not None else None,
        _positions(s.by_position) if len(s.by_position) > 1 else None,
        round(s.reused_tokens.median) or None if s.reused_tokens is not None else None,
        s.goodput,
    )


def _positions(shares: Sequence[float]) -> str:
    """`82, 61, 40`: the first few tell how far ahead guessing is worth it."""
    said = ", ".join(f"{100 * share:.0f}" for share in shares[:POSITIONS])
    return f"{said}, …" if len(shares) > POSITIONS else said


def _middle(spread: Spread | None, scale: float = 1.0) -> float | None:
    return None if spread is None else scale * spread.median


def unmeasured_table(report: Report) -> Table | None:
    """Cases that could not be run, and requests that failed, each with its error."""
    rows: list[tuple[Cell, ...]] = []
    for i, name in enumerate(case_names(report)):
        case = report.cases[i]
        if case.error:
            state = Dot("warning", "stopped early") if report.of(i) else Dot("error", "not run")
            rows.append((name, state, case.error))
        failed = [run for run in report.runs if run.case == i and run.timings is None]
        for error in dict.fromkeys(run.error or "no reason was given" for run in failed):
            times = sum((run.error or "no reason was given") == error for run in failed)
            rows.append((name, Dot("error", f"{times} of {len(failed) + len(report.of(i))} failed"), error))
    return Table(("case", "state", "reason"), rows, bold="case") if rows else None


def inside_tables(report: Report) -> tuple[Table, ...]:
    """The parts of a decode step with bars, a table for each look inside."""
    return tuple(_inside(report, each) for each in report.insides if each.shares and each.synchronised > 0)


def _inside(report: Report, look: Inside) -> Table:
    parts = by_part(look)
    longest = max(seconds for _, seconds in parts) or 1.0
    rows = [(part_name(part), 1e3 * s, 100 * s / look.synchronised, Bar(s / longest)) for part, s in parts]
    caption = (
        f"{model_names(report)[look.model]} at {count(look.context)} tokens, {counted([look.steps], 'step')} · "
        f"{duration(look.synchronised)} with a wait after each part, {duration(look.free)} without: {_waits(look)}"
    )
    return Table(("part", ("time", "ms"), ("share", "%"), ""), rows, bold="part", caption=caption)


def _waits(look: Inside) -> str:
    """What the waits cost, so that nobody takes the parts for the whole."""
    change = look.synchronised / look.free - 1 if look.free > 0 else 0.0
    return (
        f"the waits add {change:.0%}" if change >= 0 else "less with waits than without, so the machine was disturbed"
    )


def roofline_tables(report: Report) -> tuple[Table, ...]:
    """How near each phase comes to the roof; decode rates that the bandwidth allows beside the measured ones."""
    roof = report.roofline
    if roof is None:
        return ()
    return tuple(table for table in (_points(report, roof), _predicted(report, roof)) if table.rows)


def _points(report: Report, roof: Roofline) -> Table:
    names = case_names(report)
    rows = [
        (
            names[each.case], each.phase, each.context, each.intensity, each.rate / 1e9,
            None if each.mbu is None else 100 * each.mbu, None if each.mfu is None else 100 * each.mfu,
        )
        for each in sorted(roof.points, key=lambda each: each.phase)
    ]  # fmt: skip
    sheet = report.environment.datasheet
    stated = f" ({significant(sheet / 1e9)} by the data sheet)" if sheet else ""
    caption = (
        f"Measured on this machine: {significant(roof.bandwidth / 1e9)} GB/s{stated}, "
        f"{significant(roof.product / 1e9)} Gop/s in {roof.dtype} · MBU, MFU: shares of them that were reached"
    )
    if any((share or 0) > 1 for each in roof.points for share in (each.mbu, each.mfu)):
        caption += " · over 100%: the machine was busy when its limits were measured, which are higher"
    columns = (
        "case", "phase", ("context", "tokens"), ("intensity", "op/byte"), ("rate", "Gop/s"), ("MBU", "%"), ("MFU", "%"),
    )  # fmt: skip
    return Table(columns, rows, bold="case", caption=caption)


def _predicted(report: Report, roof: Roofline) -> Table:
    models = model_names(report)
    rows = [
        (
            models[each.model],
            each.context,
            each.predicted,
            each.measured,
            None if each.measured is None else 100 * each.measured / each.predicted,
        )
        for each in sorted(roof.predicted, key=lambda each: (each.model, each.context))
        if each.predicted > 0
    ]
    columns = ("model", ("context", "tokens"), ("decode, predicted", "tok/s"), ("measured", "tok/s"), ("reached", "%"))
    return Table(columns, rows, bold="model", caption="Decode rate that the measured bandwidth allows")
