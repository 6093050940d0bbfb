"""What a conversion cost, as one small table: the source, the new model, and how far apart they are."""

from __future__ import annotations

from ..runtime.conversion import ConversionReport
from ..runtime.conversion_check import Quality
from .cells import Cell
from .numbers import count, duration, plural
from .table import Table

Row = tuple[Cell, ...]


def conversion_table(report: ConversionReport) -> Table:
    """Sizes, and where it was checked what the check found; the new model's name is what loads it."""
    quality = report.quality
    rows: list[Row] = [_row("weights (MB)", report.source_bytes / 1e6, report.bytes / 1e6, _times(report))]
    rows += _quality_rows(quality) if quality is not None else [("check", None, None, f"none: {report.unchecked}")]
    rows += [("note", None, None, note) for note in (quality.notes if quality is not None else ())]
    columns = ("", report.source, report.target, "change")
    return Table(columns, rows, bold=None, caption=_caption(report))


def _quality_rows(quality: Quality) -> list[Row]:
    found = quality.divergence
    change = found.perplexity / found.source_perplexity - 1
    rows = [
        _row("perplexity", found.source_perplexity, found.perplexity, f"{100 * change:+.2g} %"),
        _row("KL divergence, mean (nats a token)", None, found.kl_mean),
    ]
    if found.kl_p99 is not None:
        rows.append(_row("KL divergence, 99th percentile", None, found.kl_p99))
    return [*rows, _row("same likeliest token (%)", None, 100 * found.agreement)]


def _row(title: str, source: float | None, target: float | None, change: str = "") -> Row:
    return (title, source, target, change)


def _times(report: ConversionReport) -> str:
    return f"× {report.bytes / report.source_bytes:.2f}" if report.source_bytes else ""


def _caption(report: ConversionReport) -> str:
    said = [f"{report.to.upper()}, {report.weights}", f"written in {duration(report.seconds)}"]
    if report.quality is not None:
        quality = report.quality
        where = quality.source_on if quality.source_on == quality.on else f"{quality.source_on} against {quality.on}"
        tokens = count(quality.divergence.tokens)
        said.append(f"checked on {tokens} tokens of {plural(quality.texts, 'text')}, {where}")
    return " · ".join(said)
