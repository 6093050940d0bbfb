"""What a profile found: plain values, in seconds and bytes, that go to JSON and back whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .beside import INTERRUPTED, Inside, Phase, Point, Predicted, Roofline, Share, Stress
from .judged import Comparison, Finding, OtherModel, Ratio, Recommendation, Trial
from .measured import Case, Environment, Profiled, Run, Sample, Value, Window

if TYPE_CHECKING:
    from pandas import DataFrame

    from ..judge.compare import Against
    from ..show.plots import Plots

# All that a report is made of, so that what reads one needs no other module.
__all__ = [
    "INTERRUPTED",
    "SCHEMA",
    "Case",
    "Comparison",
    "Environment",
    "Finding",
    "Inside",
    "OtherModel",
    "Phase",
    "Point",
    "Predicted",
    "Profiled",
    "Ratio",
    "Recommendation",
    "Report",
    "Roofline",
    "Run",
    "Sample",
    "Share",
    "Stress",
    "Trial",
    "Value",
    "Window",
]

SCHEMA = 1  # raised whenever a report of before can no longer be read


@dataclass(frozen=True, slots=True)
class Report:
    """A whole profile. `partial` says why it is not whole, such as an interrupt; `notes` what else to know. `options`
    are those that every request had.
    """

    environment: Environment
    began: str  # ISO 8601, in UTC
    seconds: float
    warmup: int
    models: tuple[Profiled, ...] = ()
    cases: tuple[Case, ...] = ()
    runs: tuple[Run, ...] = ()
    samples: tuple[Sample, ...] = ()
    insides: tuple[Inside, ...] = ()
    roofline: Roofline | None = None
    findings: tuple[Finding, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()
    others: tuple[OtherModel, ...] = ()
    stress: tuple[Stress, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    partial: str | None = None
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA
    options: Mapping[str, Value] = field(default_factory=dict)

    def of(self, case: int) -> tuple[Run, ...]:
        """The runs of a case that were answered."""
        return tuple(run for run in self.runs if run.case == case and run.timings is not None)

    def to_json(self) -> str:
        """All of it as JSON, which `from_json` reads back whole."""
        from .saved import to_json

        return to_json(self)

    @staticmethod
    def from_json(source: str | Path) -> Report:
        """A report out of JSON, or out of the file or the folder at a Path.

        Raises:
            ReportError: it cannot be read, is no report, is damaged, or was written by a newer mlxnb.
        """
        from .saved import from_json

        return from_json(source)

    def to_markdown(self) -> str:
        """What a person reads of it, as Markdown for a page or an issue on GitHub."""
        from ..show.markdown import to_markdown

        return to_markdown(self)

    def to_frame(self) -> DataFrame:
        """One row a run with all of its figures, for pandas.

        Raises:
            BackendMissingError: pandas is not installed.
        """
        from ..show.frame import to_frame

        return to_frame(self)

    def plots(self) -> Plots:
        """Its figures by name; what was not measured has none.

        Raises:
            BackendMissingError: Matplotlib is not installed.
        """
        from ..show.plots import plots

        return plots(self)

    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write report.json, report.md and one PNG a figure into `folder`; gives their paths.

        Raises:
            ReportError: a file cannot be written there.
        """
        from ..show.save import save

        return save(self, Path(folder))

    def against(self, earlier: Report | str | Path) -> Against:
        """This report beside an earlier one, or the file or folder that one was saved to: what differs by more than the
        spread, and what changed meanwhile.

        Raises:
            ReportError: the earlier one cannot be read, is no report, or is damaged.
        """
        from ..judge.compare import against

        return against(self, earlier if isinstance(earlier, Report) else Report.from_json(Path(earlier).expanduser()))

    def __str__(self) -> str:
        """What a person reads of it, as plain text."""
        return self._repr_mimebundle_()["text/plain"]

    def __repr__(self) -> str:
        """What it is of, on one line: the values fill pages."""
        from ..show.sections import head

        top = head(self)
        return f"<{' · '.join(filter(None, [top.title, *top.line, top.partial]))}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from ...render.profile import profile_bundle

        return profile_bundle(self)
