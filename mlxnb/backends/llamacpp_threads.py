"""How many threads llama.cpp decodes fastest on: measured, since it depends on model and machine."""

from __future__ import annotations

import time

from ..hardware import cores
from .llamacpp_context import LlamaContext, LlamaState
from .torch_threads import MEASURED_BELOW, Threads

WARM_UP, ROUNDS = 1, 3


def choices() -> tuple[int, ...]:
    """Numbers of threads worth trying, ascending: one, each physical (or fast) core once, and all logical cores."""
    here = cores()
    own = here.performance or here.physical or here.usable
    return tuple(sorted({1, min(own, here.usable), here.usable}))


def measured(counts: tuple[int, ...], context: LlamaContext, parameters: int) -> Threads:
    """The seconds that a token took on each of some numbers of threads. A large model is not tried on a single one,
    which is taken to be as much slower as there are fewer: where others want the cores, and threads that wait for one
    another lose more than that, decoding goes on with one. On two cores that a dozen programs wanted, two threads
    decoded at 1.5 tok/s and one at 49.
    """
    small = parameters < MEASURED_BELOW
    tried = [count for count in counts if count > 1 or small] or [1]
    seconds: dict[int, list[float]] = {count: [] for count in tried}
    for turn in range(WARM_UP + ROUNDS):
        for count, taken in seconds.items():
            step = _step_time(context, count)
            if turn >= WARM_UP:
                taken.append(step)
    found = {count: min(taken) for count, taken in seconds.items()}
    return Threads({1: found[tried[0]] * tried[0], **found})


def _step_time(context: LlamaContext, threads: int) -> float:
    """Seconds of feeding one token on so many threads."""
    context.use_threads(threads)
    start = time.perf_counter()
    context.feed(LlamaState(), [0])
    return time.perf_counter() - start
