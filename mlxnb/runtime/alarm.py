"""One alarm on a thread of its own: it rings once, at the earliest of the times that it was set for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LONGEST = 86_400.0  # seconds that it sleeps at most: a timer of years overflows, and one too many rings is harmless


class Alarm:
    """Calls `ring`, which must return at once, `seconds` after `set`; the engine then looks itself what is due."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._due = 0.0
        self._closed = False

    def set(self, seconds: float) -> None:
        """Ring in so many seconds, or earlier where it was set for earlier."""
        seconds = min(seconds, LONGEST)
        due = time.monotonic() + seconds
        with self._lock:
            if self._closed or (self._timer is not None and self._due <= due):
                return
            if self._timer is not None:
                self._timer.cancel()
            self._due, self._timer = due, threading.Timer(seconds, self._rings)
            self._timer.daemon = True
            self._timer.start()

    def close(self) -> None:
        """Never ring again."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()

    def _rings(self) -> None:
        with self._lock:
            if self._closed or self._timer is not threading.current_thread():
                return
            self._timer = None
        self._ring()
