"""What the types of a report alone cannot say: numbers that are finite, indices that lead somewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from . import Report


def indices(report: Report) -> Iterator[tuple[str, int, int]]:
    """Each index into another part of the report: what it is, its value, and how many there are to choose from."""
    cases, models = len(report.cases), len(report.models)
    yield from (("cases.model", c.model, models) for c in report.cases if c.model is not None)
    yield from (("runs.case", run.case, cases) for run in report.runs)
    yield from (("insides.model", inside.model, models) for inside in report.insides)
    yield from (("findings.case", f.case, cases) for f in report.findings if f.case is not None)
    yield from (("stress.case", stress.case, cases) for stress in report.stress)
    for comparison in report.comparisons:
        yield "comparisons.ours", comparison.ours, cases
        yield "comparisons.theirs", comparison.theirs, cases
    if report.roofline is not None:
        yield from (("roofline.points.case", point.case, cases) for point in report.roofline.points)
        yield from (("roofline.predicted.model", each.model, models) for each in report.roofline.predicted)


def not_finite(value: Any, where: str) -> Iterator[tuple[str, float]]:
    """Paths of infinite figures and of those that are no number, with what they are."""
    if isinstance(value, float):
        if not math.isfinite(value):
            yield where, value
    elif is_dataclass(value):
        for each in fields(value):
            yield from not_finite(getattr(value, each.name), f"{where}.{each.name}".lstrip("."))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from not_finite(inner, f"{where}.{key}")
    elif isinstance(value, tuple | list):
        for i, inner in enumerate(value):
            yield from not_finite(inner, f"{where}.{i}")
