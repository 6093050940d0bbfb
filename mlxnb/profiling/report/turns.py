"""Whether cases took turns: only then does a machine that changes its speed meanwhile leave their ratio alone."""

from __future__ import annotations

from collections.abc import Sequence

from . import Comparison, Report, Run


def took_turns(ours: Sequence[Run], theirs: Sequence[Run]) -> bool:
    """Whether the runs of two cases lie between each other, as their times tell, and not one case behind the other."""
    a, b = _times(ours), _times(theirs)
    return bool(a and b) and min(a) < max(b) and min(b) < max(a)


def in_turns(report: Report, found: Comparison) -> bool:
    """Whether the cases of a comparison took turns."""
    return took_turns(report.of(found.ours), report.of(found.theirs))


def _times(runs: Sequence[Run]) -> list[float]:
    return [run.timings.accepted for run in runs if run.timings is not None]
