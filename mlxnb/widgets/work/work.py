"""Long work of a panel, one piece at a time: on a thread of its own, with its progress and a way to stop it."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any, TypeVar

import ipywidgets as w

from ...render.numbers import duration
from ...render.text import one_row
from ...render.work import progress_html, steps
from ..frame.beat import BEAT
from ..frame.panel import Panel, styled

T = TypeVar("T")

# What the work reports to: steps or bytes done, in all, and what is under way.
Report = Callable[[int, int, str], None]


class Stopped(Exception):
    """Leaves work from within a report."""


class Work:
    """The place in a panel for one piece of work. While it runs, `running` holds and the stop button is there."""

    def __init__(self, panel: Panel, changed: Callable[[], None]) -> None:
        panel.works.append(self)
        self._panel, self._changed = panel, changed
        self._line = w.HTML()
        self._stop = styled(w.Button(description="Stop", disabled=True), "mlxnb-stop")
        self._stop.on_click(lambda _: self.stop())
        self.view = w.VBox([self._line, styled(w.HBox([self._stop]), "mlxnb-row")])
        self.view.layout.display = "none"
        self._thread: Thread | None = None
        self._over = Event()

    @property
    def running(self) -> bool:
        """Whether there is work under way."""
        with self._panel.lock:
            return self._thread is not None

    @property
    def stopping(self) -> bool:
        """Whether the work was asked to stop; what cannot stop comes to its end all the same, and `then` may say so."""
        return self._over.is_set()

    def start(
        self,
        title: str,
        work: Callable[[Report], T],
        then: Callable[[T], None] | None = None,
        words: Callable[[int, int], str] = steps,
        left: Callable[[int, int, str], str] | None = None,
        stopping: Callable[[], None] | None = None,
    ) -> None:
        """Run `work`, which reports how far it is, and then, holding the panel's lock, `then` with what it gives. Its
        error is shown in the panel; where it was stopped, what it `left` at its last report is. `stopping` is called as
        somebody stops it, where work waits for something that can be ended before its next report. Does nothing while
        other work runs.
        """
        if self.running:
            return
        self._over, self._now, self._began = Event(), (0, 0, ""), time.monotonic()
        self._came: Any = None
        self._title, self._words = title, words
        self._then: Callable[[Any], None] = then or _nothing
        self._left = left
        self._error: BaseException | None = None
        self._stopping: Callable[[], None] = stopping or (lambda: None)
        self._thread = Thread(target=self._run, args=(work,), name="mlxnb-panel-work", daemon=True)
        self.view.layout.display = None
        self._stop.disabled = False
        self._show()
        self._thread.start()
        self._changed()
        BEAT.follow(self._look, self._panel.fail)

    def stop(self) -> None:
        """Ask the work to end; it does at its next report."""
        if self.running:
            self._over.set()
            self._stop.disabled = True
            self._stopping()

    def _run(self, work: Callable[[Report], Any]) -> None:
        over = self._over

        def report(done: int, total: int, doing: str = "") -> None:
            self._now = (done, total, doing)
            if over.is_set():
                raise Stopped

        try:
            self._came = work(report)
        except Exception as err:  # noqa: BLE001 - the edge of a thread: the beat shows it
            self._error = err

    def _look(self) -> bool:
        panel = self._panel
        with panel.lock:
            if panel.closed or self._thread is None:
                return False
            if self._thread.is_alive():
                self._show()
                return True
            self._thread = None
            self.view.layout.display = "none"
            self._stop.disabled = True
            try:
                self._end()
            finally:  # or the panel's buttons would stay as they are while work runs
                self._changed()
            panel.keep_picture()
        return False

    def _end(self) -> None:
        if isinstance(self._error, Stopped):
            self._panel.say(f"{self._title} was stopped.", self._left(*self._now) if self._left is not None else "")
        elif isinstance(self._error, Exception):
            self._panel.fail(self._error)
        else:
            self._then(self._came)

    def _show(self) -> None:
        done, total, doing = self._now
        took = time.monotonic() - self._began
        since = duration(int(took)) if took >= 1 else ""
        words = [self._title, self._words(done, total), doing, since, "stopping" if self._over.is_set() else ""]
        self._line.value = progress_html(done, total, one_row(" · ".join(filter(None, words))))


def _nothing(came: object) -> None:
    """Nobody wants what came of the work."""
