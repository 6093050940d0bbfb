"""Notes in a Watch which attention paths a generation took, while kernels are patched into mlx-lm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ..kernels import active
from ..kernels.paths import PATHS
from ..kernels.policy import thresholds
from .base import Watch


@contextmanager
def counted(watch: Watch) -> Iterator[None]:
    """Count the calls inside by path, and the time that measuring new shapes took out of this generation."""
    dispatcher = active()
    if dispatcher is None:
        yield
        return
    before, tuned, seconds = Counter(dispatcher.counts), dispatcher.tuned, dispatcher.tuning_seconds
    try:
        yield
    finally:
        for path, calls in (dispatcher.counts - before).items():
            watch.attention_calls[path] = watch.attention_calls.get(path, 0) + calls
        if dispatcher.tuned > tuned:
            took = dispatcher.tuning_seconds - seconds
            watch.notes.append(f"attention measured on {dispatcher.tuned - tuned} new shapes, {took:.1f} s; remembered")


def attention_in_use() -> str:
    """What decides a call's path while kernels are patched in: the paths with their versions, the thresholds, and the
    stamp of the measured choices.

    Two generations with the same words took the same path for every shape that both had: a shape that is seen for the
    first time is measured without a new stamp, and one whose path changes gets one before it runs. Not seen are a
    single measurement that was lost from the folder, and one that another process changes at the same time.
    """
    dispatcher = active()
    if dispatcher is None:
        return ""
    given = " ".join(sorted(thresholds().given))
    paths = " ".join(f"{path.name}={path.version()}" for path in PATHS)
    return f"{paths} {thresholds()} given: {given} choices: {dispatcher.stamp()}"
