"""How many threads decode a small model fastest: measured, since it depends on who else wants a core just now."""

from __future__ import annotations

import time
from typing import Any

# A larger model keeps every core busy in any case, and would make the measurement itself slow.
MEASURED_BELOW = 50_000_000  # parameters

WARM_UP, ROUNDS, STEPS = 2, 4, 4


class Threads:
    """Chooses between one thread and all of them by the seconds a token took on each, newest measurement first.

    The operations of a small model are short, and threads that wait for one another lose most of their time as soon
    as something else wants a core: the pocket model decoded at 360 tok/s on two idle cores and 320 on one of them,
    but at 4 and 57 tok/s while another program kept both busy, and at 140 and 330 once a second thread of the
    process had used torch, since the OpenMP runtime then lets its idle threads sleep.
    """

    def __init__(self, seconds: dict[int, float]) -> None:
        self._seconds = seconds

    @classmethod
    def measure(cls, model: Any, parameters: int, most: int) -> Threads:
        """Time a few tokens of `model` on one thread and on `most`; a large model takes `most` unmeasured."""
        if most == 1 or parameters >= MEASURED_BELOW:
            return cls({most: 0.0})
        seconds: dict[int, list[float]] = {1: [], most: []}
        for turn in range(WARM_UP + ROUNDS):
            for threads, taken in seconds.items():
                step = _step_time(model, threads)
                if turn >= WARM_UP:
                    taken.append(step)
        return cls({threads: sorted(taken)[ROUNDS // 2] for threads, taken in seconds.items()})

    @property
    def best(self) -> int:
        """The number of threads for the next request."""
        return min(self._seconds, key=lambda threads: self._seconds[threads])

    def saw(self, threads: int, seconds: float) -> None:
        """A request decoded at so many seconds a token."""
        self._seconds[threads] = seconds


def _step_time(model: Any, threads: int) -> float:
    """Seconds of a one-token forward pass on so many threads."""
    import torch

    torch.set_num_threads(threads)
    token = torch.zeros((1, 1), dtype=torch.long)
    with torch.inference_mode():
        start = time.perf_counter()
        for _ in range(STEPS):
            model(input_ids=token, use_cache=False)
        return (time.perf_counter() - start) / STEPS
