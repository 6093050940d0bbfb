"""One profile as a front asks for it: names of models and options by name, checked before anything runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from .plan import Limits, Plan
from .profile import profile
from .report import Report
from .shown import Wanted, shown

if TYPE_CHECKING:
    from ..runtime import Engine

# Fields of a Plan that hold several values, and take one alone too.
SEVERAL = ("scenarios", "prompts", "prompt_tokens", "concurrency")


def asked(engine: Engine, models: Iterable[str], options: Mapping[str, Any], progress: Wanted = None) -> Report:
    """What `profile` gives for these models and options, with its progress where the caller wants it.

    Raises:
        OptionError: an option that there is not, or a value that it does not take.
        MlxnbError: nothing could be measured.
    """
    plan = plan_of(models, options)
    with shown(_title(plan), progress) as heard:
        return profile(engine, plan, heard)


def plan_of(models: Iterable[str], options: Mapping[str, Any]) -> Plan:
    """The Plan of these models and options, which are its fields by name.

    Raises:
        OptionError: an option that there is not, or a value that it does not take.
    """
    known = [field.name for field in fields(Plan) if field.name != "models"]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"Did you mean {near[0]}?" if near else f"Options are {', '.join(known)}."
            raise OptionError(f"Unknown option {name!r}.", meant)
    given: dict[str, Any] = {name: _several(value) if name in SEVERAL else value for name, value in options.items()}
    if isinstance(given.get("limits"), Mapping):
        given["limits"] = _limits(given["limits"])
    return Plan(models=tuple(models), **given)


def was_stopped(report: Report) -> bool:
    """Whether an interrupt cut the profile short."""
    return report.partial is not None and "interrupt" in report.partial


def _several(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, str | int) else tuple(value)


def _limits(given: Mapping[str, float]) -> Limits:
    known = [field.name for field in fields(Limits)]
    for name in given:
        if name not in known:
            raise OptionError(f"limits has {name!r}.", f"It takes {', '.join(known)}, in seconds.")
    return Limits(**given)


def _title(plan: Plan) -> str:
    return f"Profiling {', '.join(plan.models)}" if plan.models else "Profiling"
