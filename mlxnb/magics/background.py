"""Runs long work on the engine's thread while the cell shows how far it is; an interrupt of the kernel stops it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from typing import TYPE_CHECKING, TypeVar

from ..render.work import WorkCell
from .fail import interrupted
from .follow import PERIOD

if TYPE_CHECKING:
    from ..backends import LoadedModel

T = TypeVar("T")


class Steps:
    """What the work tells the cell. `report` leaves the work where it was interrupted."""

    def __init__(self) -> None:
        self.now: tuple[int, int, str] = (0, 0, "")
        self.stopped = threading.Event()

    def report(self, done: int, total: int, doing: str = "") -> None:
        """`done` of `total` steps are behind. Called on the engine's thread."""
        self.now = (done, total, doing)
        if self.stopped.is_set():
            raise _Stopped


class _Stopped(Exception):
    """Leaves the work from within a report."""


def on_engine(title: str, work: Callable[[Steps], T]) -> T:
    """What `work` gives, run on the engine's thread.

    Raises:
        KeyboardInterrupt: the kernel was interrupted; the work ends at its next report.
        MlxnbError: whatever the work raises.
    """
    from .. import engine

    return in_a_cell(title, lambda steps: engine().call(lambda: work(steps)))


def on_model(title: str, name: str, backend: str, work: Callable[[LoadedModel, Steps], T]) -> T:
    """`on_engine` for work on a model, which is loaded first."""
    from .. import engine

    return in_a_cell(title, lambda steps: engine().call_with(name, lambda model: work(model, steps), backend))


def in_a_cell(title: str, work: Callable[[Steps], T]) -> T:
    """`on_engine` for work that needs no engine: on a thread of its own."""
    steps = Steps()
    try:
        with WorkCell(title) as cell:
            return followed(steps, lambda: work(steps), lambda: cell.update(*steps.now))
    except KeyboardInterrupt:
        raise interrupted(f"{title} was stopped.") from None


def followed(steps: Steps, work: Callable[[], T], show: Callable[[], object]) -> T:
    """What `work` gives, which reports to `steps`; until then `show` is called several times a second.

    Raises:
        KeyboardInterrupt: the kernel was interrupted, and the work's next report stops it.
    """
    pool = ThreadPoolExecutor(1)
    try:
        waiting = pool.submit(work)
        while True:
            try:
                return waiting.result(timeout=PERIOD)
            except StillRunning:
                if waiting.done():
                    raise  # a timeout of the work's own
                show()
    except KeyboardInterrupt:
        steps.stopped.set()
        raise
    finally:
        pool.shutdown(wait=False)
