"""How much memory the prefix cache may take, and how far it must shrink when the machine runs short."""

from __future__ import annotations

from dataclasses import dataclass

from .. import hardware
from ..hardware import human_bytes

SHARE = 0.25
KEEP_FREE = 0.05  # of the machine's memory
KEEP_FREE_AT_MOST = 2_000_000_000
RECOVER = 1.5  # shrink to this multiple of the threshold, or the next request would have to shrink again


@dataclass(frozen=True, slots=True)
class Pressure:
    """Whether memory is short: true where the cache must shrink, to `shrink_to` bytes. Sizes in bytes."""

    free: int
    threshold: int
    shrink_to: int | None
    reason: str

    def __bool__(self) -> bool:
        return self.shrink_to is not None

    def __str__(self) -> str:
        return self.reason


def budget(held: int, free: int | None = None, share: float = SHARE) -> int:
    """Bytes for the prefix cache: a share of what would be free without the `held` bytes that it has already.

    `free` is that of a device with memory of its own; without it the machine's, now.
    """
    available = hardware.memory_free() if free is None else free
    return int((max(0, available) + held) * share)


def threshold() -> int:
    """Bytes of memory that must stay free: a twentieth of the machine's, at most 2 GB."""
    return int(min(hardware.memory_total() * KEEP_FREE, KEEP_FREE_AT_MOST))


def pressure(held: int, free: int | None = None, least_free: int | None = None) -> Pressure:
    """Hold free memory against a threshold; `held` is what the cache takes and could give back. See `budget`."""
    available = hardware.memory_free() if free is None else free
    least = threshold() if least_free is None else least_free
    if available >= least:
        return Pressure(available, least, None, f"{human_bytes(available)} free, {human_bytes(least)} wanted")
    short = f"{human_bytes(available)} free where {human_bytes(least)} should be"
    if held == 0:
        return Pressure(available, least, None, f"{short}; the prefix cache is empty already")
    target = max(0, held - int(least * RECOVER) + available)
    reason = f"{short}: the prefix cache shrinks from {human_bytes(held)} to {human_bytes(target)}"
    return Pressure(available, least, target, reason)
