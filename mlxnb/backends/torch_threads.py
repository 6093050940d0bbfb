"""How many threads decode a small model fastest: measured, since it depends on who else wants a core."""

from __future__ import annotations

import time
from typing import Any

# A larger model keeps every core busy in any case, and would make the measurement itself slow.
MEASURED_BELOW = 50_000_000  # parameters

WARM_UP, ROUNDS, STEPS = 2, 4, 4


def fastest_threads(model: Any, parameters: int, most: int) -> int:
    """1 or `most`, whichever decodes a token of `model` faster now; `most` for a large model.

    The operations of a small model are short, and threads that wait for one another lose most of their time as soon
    as another program wants a core: on 2 busy cores the pocket model decoded at 57 tok/s on one thread and at 4 tok/s
    on two, on 2 idle ones two were faster by a third.
    """
    if most == 1 or parameters >= MEASURED_BELOW:
        return most
    seconds = {1: [], most: []}  # type: dict[int, list[float]]
    for turn in range(WARM_UP + ROUNDS):
        for threads in seconds:
            taken = _step_time(model, threads)
            if turn >= WARM_UP:
                seconds[threads].append(taken)
    return min(seconds, key=lambda threads: sorted(seconds[threads])[ROUNDS // 2])


def _step_time(model: Any, threads: int) -> float:
    """Seconds of a few one-token forward passes on so many threads."""
    import torch

    torch.set_num_threads(threads)
    token = torch.zeros((1, 1), dtype=torch.long)
    with torch.inference_mode():
        start = time.perf_counter()
        for _ in range(STEPS):
            model(input_ids=token, use_cache=False)
        return time.perf_counter() - start
