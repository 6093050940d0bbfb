"""Turns a stored answer into the answer to a new request."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from ..result import Result


def replay(result: Result, accepted: float, now: float, load_time: float = 0.0) -> Result:
    """A stored answer as the answer to a request that came at `accepted` and was found at `now`, in perf_counter's
    seconds: marked `cached`, all tokens known at one time, the timings of the run that computed it in `original`.
    `load_time` went into loading the model, if it was not in memory.
    """
    then = result.timings if result.original is None else result.original
    timings = replace(
        then,
        accepted=accepted,
        start=now,
        token_times=(now,) if then.token_times else (),
        load_time=load_time,
        first_visible=None if then.first_visible is None else now,
    )
    marks: dict[str, Any] = {"cached": True, "original": then}
    known = {f.name for f in fields(result)}
    return replace(result, timings=timings, peak_memory=None, **{k: v for k, v in marks.items() if k in known})
