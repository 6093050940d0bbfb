"""How fast work is on one core, whoever else wants one."""

from __future__ import annotations

import time
from collections.abc import Callable

_measured: dict[str, float] = {}  # by what was compared, while this process lives


def times_as_fast(what: str, theirs: Callable[[], object], ours: Callable[[], object], rounds: int) -> float:
    """How many times as fast `ours` is as `theirs`. It is measured once a process for `what`, which names the shapes
    and dtypes: a model that is loaded twice must compute alike, however close the race.
    """
    if what not in _measured:
        _measured[what] = cpu_seconds(theirs, rounds) / cpu_seconds(ours, rounds)
    return _measured[what]


def cpu_seconds(work: Callable[[], object], rounds: int) -> float:
    """The least CPU time that `work` took on one thread of torch in `rounds` rounds.

    By the wall's clock two threads on a busy machine mostly wait for each other, and a choice made by that would be
    another with each load.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        taken = []
        for _ in range(rounds):
            began = time.thread_time()
            work()
            taken.append(time.thread_time() - began)
        return max(min(taken), 1e-9)  # a clock that ticks seldom may see nothing pass
    finally:
        torch.set_num_threads(threads)
