"""A report with what a finding's remedy gave, measured just now: the finding tells it, and so do recommendations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .judge.recommend import recommendations
from .report import Report
from .trials import try_it

if TYPE_CHECKING:
    from ..runtime import Engine
    from .runs.progress import Progress


def attempted(
    engine: Engine,
    report: Report,
    number: int,
    progress: Callable[[Progress], None] | None = None,
    base: Mapping[str, Any] | None = None,
) -> Report:
    """The report after its finding `number`, counted from 1, was tried; see `try_it`.

    Raises:
        OptionError: there is nothing to try at once.
        MlxnbError: the remedy could not be tried.
    """
    tried = try_it(engine, report, report.findings[number - 1], progress, base)
    findings = (*report.findings[: number - 1], tried, *report.findings[number:])
    report = replace(report, findings=findings)
    return replace(report, recommendations=recommendations(report))
