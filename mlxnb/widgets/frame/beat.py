"""The beat: one thread that looks after running work for every panel, so that no callback and no cell has to wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ...render.pace import INTERVAL, Pace

# Called at each beat; True while there is more to look after.
Look = Callable[[], bool]


@dataclass(eq=False)
class _Followed:
    look: Look
    failed: Callable[[Exception], None]
    pace: Pace = field(default_factory=Pace)


class Beat:
    """Calls every look at most 15 times a second, or as often as it asked for, until it has seen enough.

    The thread is there only while something is followed. A look that raises is told its error, and is called no more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._followed: list[_Followed] = []
        self._running = False

    def follow(self, look: Look, failed: Callable[[Exception], None], every: float = INTERVAL) -> Callable[[], None]:
        """Call `look` every so many seconds; what it gives back ends that. From any thread."""
        followed = _Followed(look, failed, Pace(interval=every))
        with self._lock:
            self._followed.append(followed)
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="mlxnb-panels", daemon=True).start()
        return lambda: self._leave(followed)

    def _leave(self, followed: _Followed) -> None:
        with self._lock:
            if followed in self._followed:
                self._followed.remove(followed)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._followed:
                    self._running = False
                    return
                followed = tuple(self._followed)
            for each in followed:
                self._look(each)
            time.sleep(INTERVAL / 2)

    def _look(self, each: _Followed) -> None:
        if not each.pace.due():
            return
        try:
            more = each.look()
        except Exception as err:  # noqa: BLE001 - the edge of a thread: whoever is followed shows it
            more = False
            each.failed(err)
        each.pace.done()
        if not more:
            self._leave(each)


BEAT = Beat()
