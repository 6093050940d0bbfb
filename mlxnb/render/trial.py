"""What trying a finding's remedy gave, as a table of one row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cells import Cell, Dot
from .table import Table

if TYPE_CHECKING:
    from ..profiling.report import Finding, Ratio

# Figures of which more is better; less is better of times, memory and energy.
MORE = ("prefill_rate", "decode_rate", "throughput", "goodput", "acceptance")
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
        row = (label, _outcome(tried), tried.figure.replace("_", " "), tried.median, between, tried.pairs)
    return Table(COLUMNS, [row], caption=f"{finding.rule}: {finding.cause}")


def _outcome(tried: Ratio) -> Dot:
    if not tried.differs:
        return Dot("off", "no difference")
    better = (tried.median > 1) == (tried.figure in MORE)
    return Dot("success", "better") if better else Dot("warning", "worse")
