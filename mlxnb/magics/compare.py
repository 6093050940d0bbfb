"""`--compare`: one prompt asked along one axis, arm after arm on one machine, and shown side by side."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from ..errors import GenerationError, MlxnbError, OptionError
from ..request import Request, Sampling, option_fields
from .follow import PERIOD, stop
from .options import NONE

if TYPE_CHECKING:
    from ..result import Result
    from ..runtime import Job
    from ..runtime.batch import Answer

# Fields of a Request that are no axis: those that hold the prompt, and those that are no single word.
NO_AXIS = {"messages", "prompt", "sampling", "stop", "strict", "schema", "keep_alive", "tools"}
WRITTEN = "--compare MODEL,MODEL or --compare OPTION=VALUE,VALUE"


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the requests that are compared, and what sets it apart."""

    name: str
    request: Request


def axes() -> list[str]:
    """What can be compared."""
    names = {f.name for cls in (Request, Sampling) for f in fields(cls)}
    return sorted(names - NO_AXIS)


def arms_of(text: str, request: Request) -> list[Arm]:
    """The request along the axis that `text` names: `MODEL,MODEL`, or `OPTION=VALUE,VALUE`. Each arm is computed anew,
    unless the line says otherwise: what was kept of an earlier answer, or of the arm before, has no figures of its own.

    Raises:
        OptionError: no such axis, fewer than two values, one twice, or a value that the option does not take.
    """
    before, equals, after = text.partition("=")
    name, said = (before.strip().lstrip("-").replace("-", "_"), after) if equals else ("model", text)
    if equals and name not in axes():
        near = difflib.get_close_matches(name, axes(), n=1)
        known = f"Did you mean {near[0]}?" if near else f"It compares {', '.join(axes())}."
        raise OptionError(f"--compare knows no {before.strip()!r}.", known)
    values = [value.strip() for value in said.split(",")]
    if len(values) < 2 or not all(values):
        raise OptionError(f"--compare needs two values or more, and has {text!r}.", f"It is written {WRITTEN}.")
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise OptionError(f"--compare has {twice!r} twice.", "Give each once.")
    if name != "cache" and request.cache == "auto":
        request = replace(request, cache="off")
    label = "" if name == "model" else f"{name} = "
    return [Arm(f"{label}{value}", _with(request, name, _value(name, value))) for value in values]


def run_arms(arms: Sequence[Arm], quiet: bool = False) -> tuple[list[Answer], bool]:
    """What became of each arm, and whether all had their turn: those that an interrupt left out are missing."""
    from .. import engine
    from ..render.work import WorkCell

    answers: list[Answer] = []
    job: Job | None = None
    try:
        with nullcontext() if quiet else WorkCell("Comparing") as cell:
            for number, arm in enumerate(arms):
                job = engine().submit(arm.request)
                while not job.wait(PERIOD):
                    if cell is not None:
                        cell.update(number, len(arms), f"{arm.name}: {_words(job)}")
                answers.append(job.answer())
                job = None
    except KeyboardInterrupt:
        partial = _stopped(job)
        return answers + ([partial] if partial is not None else []), False
    except BaseException:
        if job is not None:
            job.cancel()
        raise
    return answers, True


def _stopped(job: Job | None) -> Result | None:
    """What an interrupted arm has so far; None where that is nothing."""
    if job is None:
        return None
    job.cancel()
    try:
        result = stop(job)
    except GenerationError as error:
        result = error.partial
    except MlxnbError:
        return None
    return result if result is not None and result.tokens else None


def _words(job: Job) -> str:
    return job.state if job.state != "decode" else f"{len(job.watch.token_times)} tokens"


def _value(name: str, text: str) -> Any:
    if text == NONE:
        return None
    option = option_fields().get(name)
    try:
        return text if option is None else option.metadata["kind"](text)
    except ValueError:
        return text  # and the Request says what it takes


def _with(request: Request, name: str, value: Any) -> Request:
    if name in {f.name for f in fields(Sampling)}:
        return replace(request, sampling=replace(request.sampling, **{name: value}))
    return replace(request, **{name: value})
