"""Looks of a panel that nobody waits for: a list that is read, a cache that is counted."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

from ..frame.panel import Panel

T = TypeVar("T")


class Aside:
    """Looks at something on a thread of its own, without a line and without a stop: where a later look began
    meanwhile, what an earlier one saw is dropped.
    """

    def __init__(self, panel: Panel) -> None:
        panel.works.append(self)
        self._panel, self._latest = panel, 0
        self.running = False

    def start(self, look: Callable[[], T], then: Callable[[T], None]) -> None:
        """Run `look`, and then, holding the panel's lock, `then` with what it gives. An error is shown in the panel."""
        with self._panel.lock:
            self._latest += 1
            self.running = True
            Thread(target=self._run, args=(look, then, self._latest), name="mlxnb-panel-look", daemon=True).start()

    def _run(self, look: Callable[[], Any], then: Callable[[Any], None], number: int) -> None:
        came: Any = None
        error: Exception | None = None
        try:
            came = look()
        except Exception as err:  # noqa: BLE001 - the edge of a thread: the panel shows it
            error = err
        with self._panel.lock:
            if number != self._latest or self._panel.closed:
                return
            self.running = False
            try:
                if error is not None:
                    raise error
                then(came)
            except Exception as err:  # noqa: BLE001 - the same edge
                self._panel.fail(err)
