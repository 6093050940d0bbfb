"""One profile as a front asks for it: names of models and options by name, checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .plan import Plan
from .profile import profile
from .report import Report
from .shown import Wanted, shown

if TYPE_CHECKING:
    from ..runtime import Engine


def asked(engine: Engine, models: Iterable[str], options: Mapping[str, Any], progress: Wanted = None) -> Report:
    """What `profile` gives for these models and options, with its progress where the caller wants it.

    Raises:
        OptionError: an option that there is not, or a value that it does not take.
        MlxnbError: nothing could be measured.
    """
    plan = Plan.of(models=list(models) or None, **options)
    with shown(_title(plan), progress) as heard:
        return profile(engine, plan, heard)


def was_stopped(report: Report) -> bool:
    """Whether an interrupt cut the profile short."""
    return report.partial is not None and "interrupt" in report.partial


def _title(plan: Plan) -> str:
    return f"Profiling {', '.join(plan.models)}" if plan.models else "Profiling"
