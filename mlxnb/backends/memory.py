"""Memory that runs out, told from other errors, and memory given back to the operating system."""

from __future__ import annotations

import ctypes
import gc
import sys
import traceback
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def release() -> None:
    """Collect what nothing refers to, and have glibc return the pages it keeps for later.

    Without the second step a process on Linux kept all of a 147 MB model's memory after `unload`: glibc takes large
    blocks from its heap once a few have been freed, and holds on to that heap.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # absent where the C library is not glibc
        if trim is not None:
            trim(0)


# How the libraries begin to say that there is no memory, in lower case: each in a RuntimeError of its own words.
_SHORT = ("out of memory", "can't allocate memory", "unable to allocate", "insufficient memory", "malloc", "bad_alloc")


def memory_ran_out(err: BaseException) -> bool:
    """Whether an error of a computation says that it got no memory for it."""
    if isinstance(err, MemoryError):
        return True
    return isinstance(err, RuntimeError) and any(words in str(err).lower() for words in _SHORT)


def unless_short(work: Callable[[], T], last_try: bool = False) -> tuple[T] | None:
    """What `work` returns, in a tuple; None where it got no memory, which the last try raises instead."""
    try:
        return (work(),)
    except Exception as err:
        if last_try or not memory_ran_out(err):
            raise
        traceback.clear_frames(err.__traceback__)  # which hold the tensors of the layers it came through
        return None


def let_go(err: BaseException) -> None:
    """Whoever keeps an answer must not keep a model with it, nor tensors: frames that still run cannot be cleared."""
    for each in _chain(err):
        traceback.clear_frames(each.__traceback__)
        each.__traceback__ = None


def clear(err: BaseException) -> None:
    """`let_go` for an error that still tells where it came from. The frames that still run, which it keeps too, must
    let go of what they hold by themselves.
    """
    for each in _chain(err):
        traceback.clear_frames(each.__traceback__)


def _chain(err: BaseException) -> list[BaseException]:
    """It, and what it came of."""
    seen: list[BaseException] = []
    going: BaseException | None = err
    while going is not None and going not in seen:
        seen.append(going)
        going = going.__cause__ or going.__context__
    return seen
