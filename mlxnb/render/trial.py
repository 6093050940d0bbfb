"""What trying a finding's remedy gave, as a table of one row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..profiling.report.words import better, figure_name
from .cells import Cell, Dot
from .table import Table

if TYPE_CHECKING:
    from ..profiling.report import Finding, Ratio

COLUMNS = ("tried", "outcome", "figure", "with it over without", "95 % interval", "pairs")


def trial_table(finding: Finding) -> Table:
    """The remedy and its gain: the figure with it over the figure without."""
    label = finding.trial.label if finding.trial is not None else finding.remedy
    tried = finding.tried
    row: tuple[Cell, ...]
    if tried is None:
        row = (label, Dot("warning", "not measured"), finding.figure, None, None, None)
    else:
        between = f"{tried.low:.2f} – {tried.high:.2f}"
        row = (label, _outcome(tried), figure_name(tried.figure), tried.median, between, tried.pairs)
    return Table(COLUMNS, [row], caption=f"{finding.rule}: {finding.cause}")


def _outcome(tried: Ratio) -> Dot:
    gain = better(tried)
    if gain is None:
        return Dot("off", "no difference")
    return Dot("success", "better") if gain else Dot("warning", "worse")
