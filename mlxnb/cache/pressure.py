"""How much memory the prefix cache may take, and how far it must shrink when the machine runs short."""

from __future__ import annotations

from dataclasses import dataclass

from .. import hardware
from ..hardware import human_bytes

SHARE = 0.25
KEEP_FREE = 0.05  # of the machine's memory
KEEP_FREE_AT_MOST = 2_000_000_000


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


def may_wait(waiting: int) -> int:
    """Bytes that may wait in the machine's memory to be written, those of now included: a share of what would be free
    without them, and nothing of what must stay free.
    """
    available = max(0, hardware.memory_free()) + waiting
    return max(0, min(int(available * SHARE), available - threshold()))


def may_read(size: int) -> bool:
    """Whether a state of so many bytes may come from disk: its file's bytes and the state made of them are there at
    once, and what must stay free is not theirs.
    """
    return hardware.memory_free() - 2 * size >= threshold()


def pressure(held: int, free: int | None = None, least_free: int | None = None, needed: int = 0) -> Pressure:
    """Hold the memory that stays free against a threshold, and shrink by exactly what is missing.

    `held` is what the cache takes and could give back, `needed` what a request is about to take. See `budget`.
    """
    available = hardware.memory_free() if free is None else free
    least = threshold() if least_free is None else least_free
    missing = least - (available - needed)
    have = f"{human_bytes(available)} free" + (f", {human_bytes(needed)} of it needed now" if needed else "")
    if missing <= 0:
        return Pressure(available, least, None, f"{have}, {human_bytes(least)} wanted")
    short = f"{have} where {human_bytes(least)} should be" + (" left" if needed else "")
    if held == 0:
        return Pressure(available, least, None, f"{short}; the prefix cache is empty already")
    target = max(0, held - missing)
    reason = f"{short}: the prefix cache shrinks from {human_bytes(held)} to {human_bytes(target)}"
    return Pressure(available, least, target, reason)
