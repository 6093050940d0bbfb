"""What a form offers by name: the models of this machine, looked for in the background, and the backends with what
hinders each.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping

from ...backends.base import Backend
from ...decision import Absent, Accepted
from ...render.text import one_row
from ..frame.panel import Panel
from ..work.aside import Aside


class ModelNames:
    """The names of models that can be asked. `changed` hears of them, holding the panel's lock."""

    def __init__(self, panel: Panel, changed: Callable[[tuple[str, ...]], None]) -> None:
        self._panel, self._changed, self._aside = panel, changed, Aside(panel)
        self.names: tuple[str, ...] = ("pocket",)

    def look(self) -> None:
        """Look for them; returns at once."""
        inventory = self._panel.engine.inventory
        # One that is damaged or does not fit is in the Models panel, with the reason.
        self._aside.start(lambda: [entry.name for entry in inventory() if not entry.problem], self.add)

    def add(self, names: Iterable[str]) -> None:
        """Offer more names, behind those that are offered."""
        with self._panel.lock:
            more = [name for name in dict.fromkeys(names) if name not in self.names]
            if more and not self._panel.closed:
                self.names = (*self.names, *more)
                self._changed(self.names)


def backend_options(backends: Mapping[str, Backend], also: str) -> list[tuple[str, str]]:
    """Labels and values of a list of backends: `auto`, each by its name, and `also` where that is none of them."""
    named = [(_label(name, backend), name) for name, backend in backends.items()]
    own = [] if also in ("auto", *backends) else [(also, also)]
    return [*own, ("auto", "auto"), *named]


def _label(name: str, backend: Backend) -> str:
    decision = backend.available()
    if isinstance(decision, Accepted):
        return name
    return f"{name} (not installed)" if isinstance(decision, Absent) else f"{name} (cannot run here)"


def hindrance_html(backends: Mapping[str, Backend], chosen: str) -> str:
    """Why the backend that is chosen cannot run here and what mends it; empty where it can."""
    decision = backends[chosen].available() if chosen in backends else None
    if decision is None or isinstance(decision, Accepted):
        return ""
    why, remedy = html.escape(one_row(decision.reason)), html.escape(one_row(decision.remedy))
    return f'<div class="mlxnb-notice">{why}. <code>{remedy}</code></div>' if remedy else why
