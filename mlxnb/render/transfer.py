"""How far a download has come, in words: bytes, the rate of the last seconds, and the time left at that rate."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from .numbers import duration, size

WINDOW = 10.0  # seconds over which the rate is taken
SETTLED = 1.0  # seconds before there is a rate worth telling


class Transfer:
    """Follows one download; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def words(self, done: int, total: int) -> str:
        """Such as "1.2 GB of 4.6 GB · 38 MB/s · 1 min 29 s left"."""
        if not total:
            return "asking what there is"
        now = self._clock()
        self._seen.append((now, done))
        while now - self._seen[0][0] > WINDOW:
            self._seen.popleft()
        began, had = self._seen[0]
        parts = [f"{size(done)} of {size(total)}"]
        if now - began >= SETTLED:
            rate = (done - had) / (now - began)
            parts.append(f"{size(rate)}/s")
            parts += [f"{duration((total - done) / rate)} left"] if rate > 0 and done < total else []
        return " · ".join(parts)
