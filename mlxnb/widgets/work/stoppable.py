"""A profile on a thread of its own that another thread may stop, at once and with what was measured kept."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock, get_ident
from typing import TYPE_CHECKING, TypeVar

from ...profiling.shown import words
from .work import Report as Told
from .work import Stopped

if TYPE_CHECKING:
    from ...profiling.profile import Progress
    from ...runtime import Engine, Job

T = TypeVar("T")
Heard = Callable[["Progress"], None]


class Stoppable:
    """Runs one piece of measuring. `stop` cancels the request that it waits for, and then, as an interrupt of the
    kernel would, ends it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock, self._over = Lock(), Event()
        self._thread = 0
        self._jobs: list[Job] = []

    def run(self, work: Callable[[Heard], T], told: Told) -> T:
        """What `work` gives, which may be less than it was to measure.

        Raises:
            Stopped: it was stopped before it had anything to give.
        """

        def heard(now: Progress) -> None:
            try:
                told(now.done, now.total, words(now))
            except Stopped:
                raise KeyboardInterrupt from None
            if self._over.is_set():
                raise KeyboardInterrupt

        deafen = self._engine.hear(self._hear)
        self._thread = get_ident()  # from here on: those jobs that were there before are of others
        try:
            return work(heard)
        except KeyboardInterrupt:
            raise Stopped from None
        finally:
            deafen()

    def stop(self) -> None:
        """End it, from any thread."""
        self._over.set()
        with self._lock:
            jobs, self._jobs = self._jobs, []
        for job in jobs:
            job.cancel()

    def _hear(self, job: Job) -> None:
        if get_ident() != self._thread:
            return
        with self._lock:
            self._jobs = [each for each in self._jobs if not each.settled]
            self._jobs.append(job)
        if self._over.is_set():
            job.cancel()
