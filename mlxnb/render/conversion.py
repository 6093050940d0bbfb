"""What a conversion cost, as one small table: the source, the new model, and how far apart they are."""

from __future__ import annotations

import math
from pathlib import PurePath

from ..runtime.conversion import ConversionReport
from ..runtime.conversion_check import Quality
from .cells import Cell
from .numbers import count, duration, plural
from .table import Table

Row = tuple[Cell, ...]
CAPITALS = {"mlx": "MLX", "gguf": "GGUF", "onnx": "ONNX"}


def conversion_tables(report: ConversionReport) -> list[Table]:
    """Sizes, and what the check found; then what a person should know beside, if anything."""
    quality = report.quality
    rows: list[Row] = [("weights (MB)", report.source_bytes / 1e6, report.bytes / 1e6, _times(report))]
    rows += _quality_rows(quality) if quality is not None else []
    columns = ("", PurePath(report.source).name or report.source, PurePath(report.target).name, "change")
    tables = [Table(columns, rows, caption=_caption(report))]
    notes = list(quality.notes) if quality is not None else [f"not checked: {report.unchecked}"]
    if notes:
        tables.append(Table(("note",), [(note,) for note in notes]))
    return tables


def conversion_bundle(report: ConversionReport) -> dict[str, str]:
    """Its tables as text/html and text/plain."""
    tables = conversion_tables(report)
    return {
        "text/plain": "\n\n".join(table.text() for table in tables),
        "text/html": "".join(table.html() for table in tables),
    }


def _quality_rows(quality: Quality) -> list[Row]:
    found = quality.divergence
    change = found.perplexity / found.source_perplexity - 1
    said = f"{100 * change:+.2g} %".replace("-", "−") if math.isfinite(change) else ""
    rows: list[Row] = [
        ("perplexity", found.source_perplexity, found.perplexity, said),
        ("KL divergence, mean (nats a token)", None, found.kl_mean, ""),
    ]
    if found.kl_p99 is not None:
        rows.append(("KL divergence, 99th percentile", None, found.kl_p99, ""))
    return [*rows, ("same likeliest token (%)", None, 100 * found.agreement, "")]


def _times(report: ConversionReport) -> str:
    return f"× {report.bytes / report.source_bytes:.2f}" if report.source_bytes else ""


def _caption(report: ConversionReport) -> str:
    said = [report.target, f"{CAPITALS[report.to]}, {report.weights}", f"written in {duration(report.seconds)}"]
    if report.quality is not None:
        quality = report.quality
        where = quality.source_on if quality.source_on == quality.on else f"{quality.source_on} against {quality.on}"
        tokens = count(quality.divergence.tokens)
        said.append(f"checked on {tokens} tokens of {plural(quality.texts, 'text')}, {where}")
    return " · ".join(said)
