"""How much memory is in use, as the allocator or the system tells it, and how much of what is held lies free."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes in use; of what the allocator holds, the share from 0 to 1 that lies free, None where nothing tells."""

    used: int = 0
    free_share: float | None = None


Reading = Callable[[], Held]


def reading_for(backend: str, device: str) -> Reading | None:
    """What reads the memory of a model, on the engine's thread: that of a GPU with memory of its own together with the
    process's, that of MLX's allocator on a Mac's GPU, else the process's. None of a server's model: its memory is
    another process's, or another machine's.
    """
    if backend == "server":
        return None
    if device.startswith("cuda") and "torch" in sys.modules:
        return on_cuda
    if backend == "mlx" and "cpu" not in device.lower():
        return on_metal
    return in_process


def in_process() -> Held:
    """The resident set, and the free blocks of glibc's heap where the C library is glibc."""
    import psutil

    return Held(psutil.Process().memory_info().rss, heap_free_share())


def on_cuda() -> Held:
    """What torch's allocator has in use together with the process, and what it holds beyond that."""
    import torch

    used, held = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    return Held(used + in_process().used, 1 - used / held if held else None)


def on_metal() -> Held:
    """What MLX's allocator has in use, and what it keeps for later."""
    import mlx.core as mx

    used, free = mx.get_active_memory(), mx.get_cache_memory()
    return Held(used, free / (used + free) if used + free else None)


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later, see mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()  # noqa: SIM905
    ]


def heap_free_share() -> float | None:
    """Free blocks over all that glibc's malloc has of the system; None where the C library tells no such thing."""
    ask = _mallinfo()
    if ask is None:
        return None
    told = ask()
    held = told.arena + told.hblkhd
    return told.fordblks / held if held else None


@lru_cache(maxsize=1)
def _mallinfo() -> Any:
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None) if sys.platform == "linux" else None
    if ask is not None:
        ask.restype = _MallInfo
    return ask
