"""Does work in order on one background thread, which ends by itself when there is none left for a while."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread

IDLE = 5.0  # seconds after which the thread ends


class Writer:
    """`limit` bounds the bytes that wait: a caller that is quicker than the disk must not fill the memory."""

    def __init__(self, name: str, limit: int) -> None:
        self._name, self._limit = name, limit
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._changed = Condition()
        self._thread: Thread | None = None
        self._pending = 0  # bytes, those of the work being done included

    def submit(self, size: int, work: Callable[[], None]) -> bool:
        """Queue work that holds `size` bytes; False where too much waits already. `work` must not raise."""
        with self._changed:
            if self._pending and self._pending + size > self._limit:
                return False
            self._pending += size
            self._waiting.append((size, work))
            if self._thread is None or not self._thread.is_alive():
                # A daemon: an interpreter that ends does not wait for a large file, and a file cut off does no harm.
                self._thread = Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return True

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all is done, at most `timeout` seconds; whether it is."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while self._pending:
                left = 0.2 if end is None else min(0.2, end - time.monotonic())
                if left <= 0 or (self._thread is not None and not self._thread.is_alive()):
                    return False
                self._changed.wait(left)
        return True

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting and not self._changed.wait_for(lambda: bool(self._waiting), IDLE):
                    self._thread = None
                    return
                size, work = self._waiting.popleft()
            try:
                work()
            finally:
                del work  # it holds the arrays
                with self._changed:
                    self._pending -= size
                    self._changed.notify_all()
