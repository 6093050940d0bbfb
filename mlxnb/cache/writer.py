"""Does work in order on one background thread, which ends by itself when there is none left for a while."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass
from threading import Condition, Thread

IDLE = 5.0  # seconds after which the thread ends


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done: `number` in the order it came, the bytes that it holds, and whose it is."""

    number: int
    size: int
    name: str
    do: Callable[[], None]


class Writer:
    """`limit` bounds the bytes that wait: a caller that is quicker than the disk must not fill the memory."""

    def __init__(self, name: str, limit: int) -> None:
        self._name, self._limit = name, limit
        self._waiting: deque[Work] = deque()
        self._changed = Condition()
        self._thread: Thread | None = None
        self._came = 0  # the number of the last work that came
        self._doing: tuple[int, int] | None = None  # number and size of the work that is being done

    @property
    def held(self) -> tuple[int, int]:
        """How much work is left and the bytes that it holds, what is being done included."""
        with self._changed:
            return self._left()

    def submit(self, size: int, do: Callable[[], None], name: str = "") -> bool:
        """Queue work that holds `size` bytes; False where too much waits already. `do` must not raise."""
        with self._changed:
            left, held = self._left()
            if left and held + size > self._limit:
                return False
            self._came += 1
            self._waiting.append(Work(self._came, size, name, do))
            if self._thread is None or not self._thread.is_alive():
                # A daemon: an interpreter that ends does not wait for a large file, and a file cut off does no harm.
                self._thread = Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return True

    def drop(self, keep: Container[str] = ()) -> tuple[int, int]:
        """Forget what waits, unless its name is in `keep`; how much that was, and its bytes. What is being done goes
        on.
        """
        with self._changed:
            gone = [work for work in self._waiting if work.name not in keep]
            self._waiting = deque(work for work in self._waiting if work.name in keep)
            self._changed.notify_all()
        return len(gone), sum(work.size for work in gone)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that came before this call is done or dropped, at most `timeout` seconds; whether it is."""
        with self._changed:
            return self._wait(self._came, timeout)

    def pause(self) -> bool:
        """Wait for the work that is being done, and for none that waits; whether it is done."""
        with self._changed:
            return self._doing is None or self._wait(self._doing[0], None)

    # With the condition held.

    def _left(self) -> tuple[int, int]:
        sizes = [work.size for work in self._waiting] + ([self._doing[1]] if self._doing else [])
        return len(sizes), sum(sizes)

    def _wait(self, last: int, timeout: float | None) -> bool:
        end = None if timeout is None else time.monotonic() + timeout
        while self._oldest() <= last:
            left = 0.2 if end is None else min(0.2, end - time.monotonic())
            if left <= 0 or (self._thread is not None and not self._thread.is_alive()):
                return False
            self._changed.wait(left)
        return True

    def _oldest(self) -> int:
        """The number of the first work that is not done, one that is still to come where there is none."""
        if self._doing is not None:
            return self._doing[0]
        return self._waiting[0].number if self._waiting else self._came + 1

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting and not self._changed.wait_for(lambda: bool(self._waiting), IDLE):
                    self._thread = None
                    return
                work = self._waiting.popleft()
                self._doing = work.number, work.size
            try:
                work.do()
            finally:
                del work  # it holds the arrays
                with self._changed:
                    self._doing = None
                    self._changed.notify_all()
