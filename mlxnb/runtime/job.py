"""One generation on its way through the engine: fronts read its chunks, wait for its result, or cancel it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from threading import Event, Lock, get_ident
from types import TracebackType
from typing import Literal

from ..backends.base import Cancelled, Watch
from ..decision import Rejected
from ..errors import MlxnbError
from ..request import Request
from ..result import Chunk, Result
from .worker import report

State = Literal["queued", "loading", "prefill", "decode", "done"]

# How often a waiting thread wakes up to notice an interrupt, in seconds: Event.wait blocks signals on Windows.
WAKE = 0.2


class Job:
    """Handle of a submitted Request. Iterating gives Chunks as they come; leaving the loop early cancels.

    Every method may be called from any thread.
    """

    def __init__(self, request: Request, unstarted: Callable[[Job], Result], engine_thread: int = 0) -> None:
        self.request = request
        self._engine_thread = engine_thread
        self._unstarted = unstarted  # makes the Result of a job that is cancelled while it waits
        self._so_far: Callable[[Job], Result] | None = None  # the same, of one that waits for the second time
        self.watch = Watch()
        self.fresh = False  # whether it is to be computed, also where an answer to the same was kept
        self.tried: tuple[Rejected, ...] = ()  # backends that failed before the first token, and those before them
        self.accepted = time.perf_counter()
        self.state: State = "queued"
        self._chunks: SimpleQueue[Chunk | None] = SimpleQueue()
        self._done = Event()
        self._lock = Lock()
        self._callbacks: list[Callable[[Job], None]] = []
        self._result: Result | None = None
        self._error: BaseException | None = None

    def __iter__(self) -> Iterator[Chunk]:
        try:
            while (chunk := self._next()) is not None:
                yield chunk
        finally:
            self.cancel()
        if self._error is not None:
            raise self._error

    def _next(self) -> Chunk | None:
        while True:
            try:
                return self._chunks.get(timeout=WAKE)
            except Empty:
                if self._done.is_set() and self._chunks.empty():
                    return None
                self.check_thread()

    def __enter__(self) -> Job:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.cancel()

    def drain(self) -> list[Chunk]:
        """Chunks that came since the last call; never waits."""
        chunks: list[Chunk] = []
        while True:
            try:
                chunk = self._chunks.get_nowait()
            except Empty:
                return chunks
            if chunk is not None:
                chunks.append(chunk)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job is done, at most `timeout` seconds; whether it is.

        Raises:
            RuntimeError: on the engine's own thread, which would wait for itself.
        """
        self.check_thread()
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = WAKE if end is None else min(WAKE, end - time.monotonic())
            if self._done.wait(max(left, 0)):
                return True
            if end is not None and time.monotonic() >= end:
                return False

    def check_thread(self) -> None:
        """Whether this thread may wait for the job.

        Raises:
            RuntimeError: on the engine's own thread, unless the job is done.
        """
        if get_ident() == self._engine_thread and not self._done.is_set():
            raise RuntimeError("A callback of the engine cannot wait for a generation: submit it and return.")

    def result(self) -> Result:
        """Wait for the Result; an interrupt of the waiting thread cancels the job.

        Raises:
            MlxnbError: what made the job fail.
        """
        try:
            self.wait()
        except BaseException:
            self.cancel()
            raise
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    @property
    def settled(self) -> bool:
        """Whether it has come to something, for good."""
        return self._done.is_set()

    def answer(self) -> Result | MlxnbError:
        """What a job that is done came to: its Result, or the error that it failed with."""
        assert self._done.is_set()
        if self._result is not None:
            return self._result
        assert isinstance(self._error, MlxnbError)
        return self._error

    def cancel(self) -> None:
        """Stop at once while queued, else within one token or one prefill chunk; a finished job stays as it is."""
        self.watch.cancelled.set()
        with self._lock:
            waiting = self.state == "queued"
            if waiting:
                self.state = "done"
        if waiting:
            self.finish((self._so_far or self._unstarted)(self))

    def on_done(self, callback: Callable[[Job], None]) -> None:
        """Call `callback(job)` when done, on the engine's thread, or at once if it is done already."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback(self)

    # Called by the engine.

    def start(self) -> bool:
        """Take the job up; False where it was cancelled while it waited."""
        with self._lock:
            if self.state != "queued":
                return False
            self.state = "loading"
            return True

    def queue_again(self, so_far: Callable[[Job], Result] | None = None) -> None:
        """The job waits once more, so that it ends at once where it is cancelled: with what `so_far` makes of it."""
        with self._lock:
            if self._done.is_set():
                return
            self._so_far, self.state = so_far, "queued"
        if self.watch.cancelled.is_set():  # before it waited, so that nothing came of it yet
            self.cancel()

    def loading(self, done: int, total: int) -> None:
        """A download for it is `done` bytes of `total` on.

        Raises:
            Cancelled: nobody waits for it any more.
        """
        self.watch.load_done, self.watch.load_total = done, total
        if self.watch.cancelled.is_set():
            raise Cancelled

    def pass_over(self, tried: tuple[Rejected, ...]) -> None:
        """Its backend failed before the first token, as the last of `tried` says: another one begins afresh."""
        self.tried, self.watch = (*self.tried, *tried), self.watch.anew()

    def put(self, chunk: Chunk) -> None:
        """Hand a chunk to whoever iterates."""
        self._chunks.put(chunk)

    def finish(self, result: Result | None, error: BaseException | None = None) -> None:
        """Settle the job once and for all. A callback that raises is reported, and keeps nothing from the others."""
        with self._lock:
            if self._done.is_set():
                return
            self._result, self._error, self.state = result, error, "done"
            self._done.set()
            callbacks, self._callbacks = self._callbacks, []
            self._so_far = None  # which may hold a model
        self._chunks.put(None)
        for callback in callbacks:
            try:
                callback(self)
            except Exception:  # noqa: BLE001 - a caller's own mistake, which is no failure of the job or of its thread
                report()
