"""The beat calls what follows running work, seldom enough, and its thread is gone when there is nothing left."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

from mlxnb.render.pace import INTERVAL
from mlxnb.widgets.frame.beat import Beat

from .conftest import until


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "mlxnb-panels"]


def never(error: Exception) -> None:
    raise AssertionError(error)


def test_a_look_is_called_until_it_has_seen_enough_and_not_too_often() -> None:
    beat, calls, before = Beat(), [], len(threads())

    def look() -> bool:
        calls.append(time.perf_counter())
        return len(calls) < 5

    beat.follow(look, never)
    until(lambda: len(calls) == 5 and len(threads()) == before)
    assert all(after - earlier >= INTERVAL * 0.99 for earlier, after in pairwise(calls))


def test_one_that_raises_is_told_and_the_others_go_on() -> None:
    beat, told, seen = Beat(), [], []
    beat.follow(lambda: bool(1 // 0), told.append)
    stop = beat.follow(lambda: seen.append(1) is None, never)
    until(lambda: len(seen) >= 3)
    stop()
    assert [type(error) for error in told] == [ZeroDivisionError]


def test_it_begins_again_after_it_had_nothing_to_do() -> None:
    beat, seen = Beat(), []
    for n in (1, 2):
        beat.follow(lambda n=n: seen.append(n) is not None, never)  # type: ignore[misc]
        until(lambda n=n: n in seen)  # type: ignore[misc]
        until(lambda: not beat._running)
