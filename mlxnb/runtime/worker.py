"""The one thread that owns every model, KV cache, seed and patch; everything else hands it work and reads queues."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from ..errors import EngineClosedError

T = TypeVar("T")


class Worker:
    """Runs calls one after the other on a thread of its own. The thread is a daemon: the engine joins it at exit."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._lock = threading.Lock()  # nothing may be queued behind the end
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def ident(self) -> int:
        """The thread's identifier, as `threading.get_ident` gives it there."""
        assert self._thread.ident is not None
        return self._thread.ident

    def submit(self, call: Callable[[], object]) -> None:
        """Queue a call that handles its own errors.

        Raises:
            EngineClosedError: after `close`.
        """
        with self._lock:
            if self._closed:
                raise EngineClosedError("The engine is closed.", "Call mlxnb.engine() for a new one.")
            self._calls.put(call)

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` on the thread and wait for what it returns or raises; not at all where the wait is broken off
        before its turn has come.
        """
        if threading.get_ident() == self.ident:
            return function()
        future: Future[T] = Future()

        def settle() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except BaseException as err:  # noqa: BLE001 - handed to the caller, whatever it is
                future.set_exception(err)

        self.submit(settle)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Callable[[], None]) -> None:
        """Let what is queued finish, run `last`, and end the thread. Closing twice is harmless."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._calls.put(last)
                self._calls.put(None)
        if threading.get_ident() != self.ident:
            self._thread.join()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except BaseException:  # noqa: BLE001 - a caller's callback failed, or panicked, which the thread outlives
                report()
            del call  # it may hold a model that was just unloaded


def report() -> None:
    """Show the exception that is handled now as one that this thread did not catch, and go on."""
    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
