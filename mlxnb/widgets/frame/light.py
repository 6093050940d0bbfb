"""The status light: whether the engine works, could work, or cannot, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...render.cells import Dot, as_html, as_text
from ...render.footer import model_label
from ...render.text import one_row

if TYPE_CHECKING:
    from ...runtime import Engine
    from ...runtime.engine import Status


def light(engine: Engine) -> Dot:
    """Green: active. Yellow: available. Red: unavailable."""
    if engine.closed:
        return Dot("error", "unavailable: the engine is closed")
    if not any(backend.available() for backend in engine.backends.values()):
        return Dot("error", "unavailable: no backend can run here; see %mlxnb doctor")
    status = engine.status()
    if status.running is not None:
        waiting = f", {status.queued} waiting" if status.queued else ""
        return Dot("success", f"active: {model_label(status.running)}{waiting}")
    return Dot("warning", f"available: {_held(status)}")


def light_html(dot: Dot) -> str:
    """The light, for the head of a panel."""
    return f'<div class="mlxnb-light" role="status">{as_html(dot)}</div>'


def light_text(dot: Dot) -> str:
    """Its plain twin."""
    return as_text(dot)


def _held(status: Status) -> str:
    if not status.loaded:
        return "no model in memory"
    first = status.loaded[0]
    more = f" and {len(status.loaded) - 1} more" if len(status.loaded) > 1 else ""
    return f"{model_label(first.name)} in memory, {one_row(f'{first.backend} {first.device}').strip()}{more}"
