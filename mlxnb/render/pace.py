"""How often a live display may be redrawn: at most 15 times a second, and never for more than a tenth of the time."""

from __future__ import annotations

import time
from collections.abc import Callable

INTERVAL = 1 / 15
# After a redraw of t seconds, 9 t of rest keep drawing below a tenth of the time.
REST = 9


class Pace:
    """Says when the next redraw is due. `clock` gives seconds, `interval` are those between two redraws at least."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter, interval: float = INTERVAL) -> None:
        self._clock, self._interval = clock, interval
        self._next = float("-inf")
        self._began = 0.0

    def due(self) -> bool:
        """Whether to redraw now; the redraw is taken to begin at once."""
        self._began = self._clock()
        return self._began >= self._next

    def done(self) -> None:
        """The redraw has ended."""
        now = self._clock()
        self._next = max(self._began + self._interval, now + REST * (now - self._began))
