"""How many threads llama.cpp decodes fastest on: measured, since it depends on machine, model, and who wants a core."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..hardware import cores
from .llamacpp_context import LlamaContext, LlamaState
from .torch_threads import MEASURED_BELOW

WARM_UP, ROUNDS = 1, 3
ENOUGH = 8  # tokens after which a number of threads is judged
SLOW = 3  # times as slow as another number, twice in a row: judged at once
FORGETS = 0.9  # by how much a bad figure of another number shrinks with each judgement


class Choice:
    """Chooses by the seconds that a token took on each number of threads, as every token tells anew.

    Threads wait for one another at every layer, and lose most of their time where other programs want the cores: on
    two cores that a dozen programs wanted, two threads decoded at 1.5 tok/s and one at 49. A bad figure is forgotten
    bit by bit, down to the best that was seen, so that it is tried again.
    """

    def __init__(self, seconds: Mapping[int, float]) -> None:
        self._least, self._now = dict(seconds), dict(seconds)
        self._taken: list[float] = []

    @property
    def best(self) -> int:
        """The number of threads to go on with."""
        return min(self._now, key=lambda count: self._now[count])

    def saw(self, count: int, seconds: float) -> None:
        """A token took so many seconds on `count` threads."""
        self._taken.append(seconds)
        others = [known for other, known in self._now.items() if other != count]
        slow = len(self._taken) > 1 and min(self._taken[-2:]) > SLOW * min(others, default=seconds)
        if len(self._taken) < ENOUGH and not slow:
            return
        mean = sum(self._taken) / len(self._taken)
        self._taken.clear()
        for other in self._now:
            self._now[other] = max(self._least[other], self._now[other] * FORGETS)
        self._now[count], self._least[count] = mean, min(mean, self._least.get(count, mean))


def choices() -> tuple[int, ...]:
    """Numbers of threads worth trying, ascending: one, each physical (or fast) core once, and all logical cores."""
    here = cores()
    own = here.performance or here.physical or here.usable
    return tuple(sorted({1, min(own, here.usable), here.usable}))


def measured(counts: tuple[int, ...], context: LlamaContext, parameters: int) -> Choice:
    """What some numbers of threads begin with. A large model is not tried on a single one, which is taken to be as
    much slower as there are fewer.
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
    return Choice({1: found[tried[0]] * tried[0], **found})


def _step_time(context: LlamaContext, threads: int) -> float:
    """Seconds of feeding one token on so many threads."""
    context.use_threads(threads)
    start = time.perf_counter()
    context.feed(LlamaState(), [0])
    return time.perf_counter() - start
