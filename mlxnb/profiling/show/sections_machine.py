"""The small print of a report: the machine, its settings, what is installed, and the models as they were loaded."""

from __future__ import annotations

from ...render.cells import Cell
from ...render.footer import backend_words
from ...render.numbers import count, duration, significant, size
from ...render.table import Table
from ..report import Profiled, Report
from ..report.words import value_words

Row = tuple[Cell, ...]


def machine_tables(report: Report) -> tuple[Table, ...]:
    """One for the machine, one for the versions, one for the models."""
    versions = [(name, version) for name, version in report.environment.versions.items()]
    models = [row for model in report.models for row in _model(model)]
    tables = (
        Table(("machine", "what it is"), _machine(report)),
        Table(("package", "version"), versions),
        Table(("model", "as it was loaded"), models),
    )
    return tuple(table for table in tables if table.rows)


def _machine(report: Report) -> list[Row]:
    e = report.environment
    rows: list[Row] = [
        ("chip", e.chip),
        ("cores", e.cores),
        ("memory", size(e.memory)),
        ("system", e.system),
        ("device", e.device),
    ]
    if e.bandwidth is not None:
        stated = f", {significant(e.datasheet / 1e9)} GB/s by the data sheet" if e.datasheet else ""
        rows.append(("bandwidth", f"{significant(e.bandwidth / 1e9)} GB/s measured{stated}"))
    rows += [(f"products, {dtype}", f"{significant(rate / 1e9)} Gop/s measured") for dtype, rate in e.products.items()]
    return rows + [(name, value_words(value)) for name, value in e.settings.items()]


def _model(m: Profiled) -> list[Row]:
    context = f", context of {count(m.context_length)} tokens" if m.context_length else ""
    reads = f"{size(m.weights_read)} of weights" if m.weights_read is not None else ""
    reads += f" and {size(m.kv_read)} for each token of context" if reads and m.kv_read is not None else ""
    rows: list[Row] = [
        (m.name, f"{m.source} @ {m.revision}" if m.revision else m.source),
        ("backend", f"{backend_words(m.backend, m.backend_version)}, {m.device}"),
        ("weights", f"{m.dtype}{f', {m.quantization}' if m.quantization else ''}, {size(m.weights)}{context}"),
        ("parameters", significant(m.parameters / 1e6) + " M" if m.parameters else None),
        ("adapter", m.adapter),
        ("attention", m.attention or None),
        ("a decode step reads", reads or None),
        ("loaded in", duration(m.load_time) if m.load_time is not None else None),
        *(("note", note) for note in m.notes),
    ]
    return [row for row in rows if row[1] is not None]
