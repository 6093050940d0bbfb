"""One profile from its plan to its report, on the engine that every other front asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .plan import Plan
from .report import Report

if TYPE_CHECKING:
    from ..runtime import Engine


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a profile is: what goes on now, requests done of all, and the seconds that are probably left."""

    doing: str
    done: int
    total: int
    left: float | None


def profile(engine: Engine, plan: Plan, progress: Callable[[Progress], None] | None = None) -> Report:
    """Measure what `plan` names. An interrupt ends it and keeps what was measured: the report is then `partial`.

    Raises:
        OptionError: the plan names a scenario, a field or a model that is not there.
        MlxnbError: nothing of it could be measured.
    """
    raise NotImplementedError
