"""One profile as a front asks for it: names of models and options by name, checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from ..profile_options import NAMES
from .profile import profile
from .report import Report
from .runs.plan import Plan
from .shown import Wanted, shown

if TYPE_CHECKING:
    from ..runtime import Engine


# What a line can ask for beside measuring, and how it goes in Python.
ELSEWHERE = {
    "save": "The report does that: mlxnb.profile(…).save(FOLDER).",
    "json": "The report does that: mlxnb.profile(…).to_json().",
    "against": "The report does that: mlxnb.profile(…).against(EARLIER).",
    "into": "Assign it: report = mlxnb.profile(…).",
    "no_inside": "Write inside=False.",
}


def asked(engine: Engine, models: Iterable[str], options: Mapping[str, Any], progress: Wanted = None) -> Report:
    """What `profile` gives for these models and options, with its progress where the caller wants it. Options go by the
    names of a Plan, or by those that they have on a line.

    Raises:
        OptionError: an option that there is not, or a value that it does not take.
        MlxnbError: nothing could be measured.
    """
    plan = Plan.of(models=list(models) or None, **_named(options))
    with shown(_title(plan), progress) as heard:
        return profile(engine, plan, heard)


def _named(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options by the names of a Plan."""
    odd = next((name for name in ELSEWHERE if name in options), None)
    if odd is not None:
        raise OptionError(f"mlxnb.profile takes no {odd}.", ELSEWHERE[odd])
    twice = next((name for name in options if NAMES.get(name, name) != name and NAMES[name] in options), None)
    if twice is not None:
        raise OptionError(f"{twice} and {NAMES[twice]} are the same option.", "Give one of them.")
    return {NAMES.get(name, name): value for name, value in options.items()}


def was_stopped(report: Report) -> bool:
    """Whether an interrupt cut the profile short."""
    return report.partial is not None and "interrupt" in report.partial


def _title(plan: Plan) -> str:
    return f"Profiling {', '.join(plan.models)}" if plan.models else "Profiling"
