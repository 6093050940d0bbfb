"""`%profile_model --try N`: measures what a finding of the last report advises, and keeps what it gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from ..render.numbers import plural

if TYPE_CHECKING:
    from ..profiling import Report
    from ..profiling.report import Finding

FIRST = "Profile a model first: %profile_model --quick"


class LastReport:
    """The report that this notebook made last, the variable that it was put into, and what all of its requests had."""

    def __init__(self) -> None:
        self._report: Report | None = None
        self._base: Mapping[str, Any] = {}
        self.name: str | None = None

    def set(self, report: Report, name: str | None, base: Mapping[str, Any]) -> None:
        """Remember a report. `base` are options that every request of it was asked with."""
        self._report, self.name, self._base = report, name, base

    def finding(self, number: int) -> Finding:
        """The finding with this number, from 1.

        Raises:
            OptionError: there is no report, no such finding, or nothing about it that could be tried at once.
        """
        report = self.report()
        if number > len(report.findings):
            has = plural(len(report.findings), "finding")
            raise OptionError(f"There is no finding {number}: the last report has {has}.", "The report counts them.")
        finding = report.findings[number - 1]
        if finding.trial is None:
            problem = f"Finding {number}, {finding.rule}, has no remedy that could be tried from here."
            raise OptionError(problem, finding.remedy)
        return finding

    def report(self) -> Report:
        """The report.

        Raises:
            OptionError: there is none yet.
        """
        if self._report is None:
            raise OptionError("There is no report yet.", FIRST)
        return self._report

    def attempt(self, number: int) -> Finding:
        """The finding with what its remedy gave, which the report holds from now on, and recommends where it gained.

        Raises:
            OptionError: see `finding`.
            MlxnbError: the remedy could not be tried.
        """
        finding, report = self.finding(number), self.report()
        assert finding.trial is not None
        from .. import engine
        from ..profiling.judge.recommend import recommendations
        from ..profiling.shown import shown
        from ..profiling.trials import try_it

        with shown(f"Trying {finding.trial.label}") as heard:
            tried = try_it(engine(), report, finding, heard, self._base)
        findings = (*report.findings[: number - 1], tried, *report.findings[number:])
        report = replace(report, findings=findings)
        self._report = replace(report, recommendations=recommendations(report))
        return tried
