"""Whether work grows with its input and no faster: a model that repeats itself must not hang the notebook."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORT, LONG = 5_000, 20_000  # characters
MOST = 10  # times the work for four times the text: 4 is in proportion, 16 its square
UNNOTICED = 0.025  # seconds, below which a measurement of the short text is mostly noise


def assert_in_proportion(work: Callable[[str], object], piece: str) -> None:
    """That `work` on very many pieces costs little more than in proportion, in this thread's processor time.

    A busy machine makes one measurement long and not all, a slow machine makes both lengths slow.
    """
    short, long = (piece * (size // len(piece)) for size in (SHORT, LONG))
    bound = MOST * max(UNNOTICED, _seconds(work, short))
    measured: list[float] = []
    while not measured or (min(measured) > bound and len(measured) < 3):
        measured.append(_seconds(work, long))
    assert min(measured) <= bound, f"{LONG} characters of {piece!r} took {min(measured):.2f} s of {bound:.2f} s allowed"


def _seconds(work: Callable[[str], object], text: str) -> float:
    began = time.thread_time()
    work(text)
    return time.thread_time() - began
