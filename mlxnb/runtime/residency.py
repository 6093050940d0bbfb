"""How long a model stays in memory: while it is used or pinned, and for its keep_alive after its last use."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ..backends.base import ModelInfo
from ..request import FOREVER

Clock = Callable[[], float]


@dataclass(slots=True)
class Stay:
    """What is known of the stay of one copy: when it was last used, how many seconds it may be idle after that, whether
    it is pinned, and how many users it has now.
    """

    used: float
    keep_alive: float = math.inf
    pinned: bool = False
    users: int = 0

    @property
    def idle(self) -> bool:
        """Whether nobody uses it, and nobody asked to keep it whatever comes."""
        return not self.users and not self.pinned

    @property
    def ends(self) -> float:
        """The time on the clock at which it has been idle for long enough."""
        return self.used + self.keep_alive if self.idle else math.inf


class Copy(Protocol):
    """A copy of a model, as far as its stay goes."""

    @property
    def stay(self) -> Stay:
        """How long it stays."""

    @property
    def info(self) -> ModelInfo:
        """What it is."""


C = TypeVar("C", bound=Copy)


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory: `idle` seconds since its last use, 0 while it is used; it `goes` in so many seconds, None
    where only a person or a lack of memory will unload it.
    """

    info: ModelInfo
    idle: float
    goes: float | None
    pinned: bool
    in_use: bool


class Residency:
    """Decides which copies go, by a clock in seconds. Every method but `residents` belongs to the engine's thread."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._scopes: list[list[Stay]] = []

    def begin(self, keep_alive: float = math.inf) -> Stay:
        """The stay of a copy that is being loaded."""
        return Stay(self._clock(), keep_alive)

    def use(self, stay: Stay, keep_alive: float | None = None) -> None:
        """A copy is used: until the innermost `in_use` ends. `keep_alive` holds from now on; None leaves what holds."""
        stay.used = self._clock()
        if keep_alive is not None:
            stay.keep_alive = keep_alive
        if self._scopes and not any(stay is held for held in self._scopes[-1]):
            stay.users += 1
            self._scopes[-1].append(stay)

    def release(self, stay: Stay) -> None:
        """The innermost `in_use` needs a copy no longer."""
        if self._scopes and any(stay is held for held in self._scopes[-1]):
            self._scopes[-1] = [held for held in self._scopes[-1] if held is not stay]
            stay.users -= 1

    @contextmanager
    def holding(self, stay: Stay) -> Iterator[None]:
        """A copy has one user more until the end, however many `in_use` begin and end meanwhile."""
        stay.users += 1
        try:
            yield
        finally:
            stay.users -= 1
            stay.used = self._clock()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Whatever `use` is told of within has a user until the end, from which its idle time counts."""
        self._scopes.append([])
        try:
            yield
        finally:
            for stay in self._scopes.pop():
                stay.users -= 1
                stay.used = self._clock()

    def oldest_first(self, copies: Collection[C]) -> list[C]:
        """Those that may go where memory is short, the one that was not used for longest first."""
        return sorted((copy for copy in copies if copy.stay.idle), key=lambda copy: copy.stay.used)

    def over(self, copies: Collection[C]) -> list[C]:
        """Those that have been idle for their keep_alive."""
        now = self._clock()
        return [copy for copy in copies if copy.stay.ends <= now]

    def next_end(self, copies: Collection[C]) -> float | None:
        """Seconds until the first of them will have been idle for its keep_alive; None where none will."""
        ends = min((copy.stay.ends for copy in copies), default=math.inf)
        return None if ends == math.inf else max(0.0, ends - self._clock())

    def residents(self, copies: Collection[C]) -> list[Resident]:
        """What to tell of them; safe on any thread."""
        now = self._clock()
        return [_resident(copy.info, copy.stay, now) for copy in copies]


def _resident(info: ModelInfo, stay: Stay, now: float) -> Resident:
    idle = 0.0 if stay.users else max(0.0, now - stay.used)
    goes = None if stay.ends == math.inf else max(0.0, stay.ends - now)
    return Resident(info, idle, goes, stay.pinned, bool(stay.users))


def in_seconds(keep_alive: float | str) -> float:
    """The seconds of a `keep_alive`, infinite for "forever"."""
    return math.inf if keep_alive == FOREVER else float(keep_alive)


def taken_by(copies: Collection[C]) -> int:
    """Bytes of their weights."""
    return sum(copy.info.memory for copy in copies)
