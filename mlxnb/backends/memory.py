"""Giving memory back to the operating system after a model was dropped."""

from __future__ import annotations

import ctypes
import gc
import sys


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
