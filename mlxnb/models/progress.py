"""Turns huggingface_hub's progress bars into calls of a function with the bytes done and the bytes in all."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from typing import Any

Progress = Callable[[int, int], None]
SECONDS_BETWEEN_CALLS = 0.1  # A notebook that gets thousands of small messages freezes.


class Reporter:
    """Calls `progress(done, total)` in bytes: from one thread at a time, at most ten times a second, never backwards.

    huggingface_hub counts on several threads. When `progress` raises, every thread that counts next stops on the same
    error, which `stopped` keeps.
    """

    def __init__(self, progress: Progress | None, total: int, done: int = 0) -> None:
        self.stopped: BaseException | None = None
        self._progress, self._total, self._before = progress, total, done
        self._last, self._time, self._lock = -1, 0.0, threading.Lock()

    def report(self, downloaded: float) -> None:
        """`downloaded` bytes have come so far in this call."""
        with self._lock:
            if self.stopped:
                raise self.stopped
            done, now = min(self._total, self._before + int(downloaded)), time.monotonic()
            if done <= self._last or (now - self._time < SECONDS_BETWEEN_CALLS and done < self._total):
                return
            self._last, self._time = done, now
            self._call(done)

    def add(self, count: int) -> None:
        """So many bytes more are here, whoever brought them; what `report` is told counts beside them."""
        with self._lock:
            self._before += count
        self.report(0)

    def beat(self) -> None:
        """Nothing came, and the same is told again: `progress` may want to stop what only waits."""
        with self._lock:
            if self.stopped:
                raise self.stopped
            self._last = max(self._last, min(self._total, self._before))
            self._call(self._last)

    def _call(self, done: int) -> None:
        if not self._progress:
            return
        try:
            self._progress(done, self._total)
        except BaseException as error:
            self.stopped = error
            raise

    def bar_class(self) -> type:
        """A tqdm bar for huggingface_hub that prints nothing and reports what it counts, when it counts bytes."""
        from tqdm.std import tqdm  # type: ignore[import-untyped]

        reporter = self

        class Bar(tqdm):
            monitor_interval = 0  # or tqdm would start a thread of its own

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **{**kwargs, "file": io.StringIO()})

            def update(self, n: float | None = 1) -> bool | None:
                shown: bool | None = super().update(n)
                if self.unit == "B":
                    reporter.report(self.n)
                return shown

        return Bar
