"""The one thread that owns every model, KV cache, seed and patch; everything else hands it work and reads queues."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """Runs calls one after the other on a thread of its own. The thread is a daemon: the engine joins it at exit."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], None]) -> None:
        """Queue a call that handles its own errors."""
        self._calls.put(call)

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` on the thread and wait for what it returns or raises."""
        if threading.current_thread() is self._thread:
            return function()
        future: Future[T] = Future()

        def settle() -> None:
            try:
                future.set_result(function())
            except BaseException as err:  # noqa: BLE001 - handed to the caller, whatever it is
                future.set_exception(err)

        self.submit(settle)
        return future.result()

    def close(self) -> None:
        """Let what is queued finish, then end the thread."""
        self._calls.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception:  # noqa: BLE001 - a caller's callback failed, which the thread outlives
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), self._thread)))
            del call  # it may hold a model that was just unloaded
