"""What work of a panel waits for, the engine's thread or a network, and how it stops waiting when it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Event, Thread
from typing import TYPE_CHECKING, TypeVar

from .work import Report, Stopped

if TYPE_CHECKING:
    from ...runtime import Engine

T = TypeVar("T")


def in_turn(engine: Engine, report: Report, work: Callable[[], T]) -> T:
    """What `work` gives on the engine's thread. While others are before it, `report` hears so; where that raises, its
    turn is given up.
    """
    turn: Future[T] = Future()

    def take() -> None:
        if turn.set_running_or_notify_cancel():
            try:
                turn.set_result(work())
            except BaseException as err:  # noqa: BLE001 - handed to the caller, whatever it is
                turn.set_exception(err)

    engine.later(take)
    while not wait([turn], timeout=0.1).done:
        try:
            if not turn.running():
                report(0, 0, "waiting for what the engine does now")
        except BaseException:
            if turn.cancel():
                raise
    return turn.result()


def beside(report: Report, work: Callable[[Report], T]) -> T:
    """What `work` gives, which may wait for a network: on a thread beside, which is left behind where `report` raises,
    and ends at its own next report.
    """
    came: Future[T] = Future()
    over, now = Event(), [(0, 0, "")]

    def heard(done: int, total: int, doing: str = "") -> None:
        now[0] = (done, total, doing)
        if over.is_set():
            raise Stopped

    def run() -> None:
        try:
            came.set_result(work(heard))
        except BaseException as err:  # noqa: BLE001 - handed to the caller, whatever it is
            came.set_exception(err)

    Thread(target=run, name="mlxnb-panel-beside", daemon=True).start()
    try:
        while not wait([came], timeout=0.1).done:
            report(*now[0])
    except BaseException:
        over.set()
        raise
    return came.result()
