"""Panels: the same engine under buttons. `open_panel(name)` shows one; there is one of each in a kernel."""

from __future__ import annotations

import difflib
from importlib import import_module, util
from typing import TYPE_CHECKING

from ..errors import BackendMissingError, OptionError
from ..panel_names import PANELS

if TYPE_CHECKING:
    from .frame.panel import Panel

# Where each panel is: its module and its class.
PLACES = {
    "playground": ("playground.panel", "Playground"),
    "chat": ("chat.panel", "ChatPanel"),
    "models": ("models.panel", "ModelsPanel"),
    "profile": ("profile.panel", "ProfilePanel"),
    "kernels": ("kernels.panel", "KernelsPanel"),
    "monitor": ("monitor.panel", "Monitor"),
    "settings": ("settings.panel", "SettingsPanel"),
}
_open: dict[str, Panel] = {}


def open_panel(name: str = "playground") -> Panel:
    """The panel of a name: the one that is open, or a new one after it was closed.

    Raises:
        OptionError: there is no such panel.
        BackendMissingError: ipywidgets or anywidget is not installed.
    """
    if name not in PANELS:
        near = difflib.get_close_matches(name, PANELS, n=1)
        remedy = f"Did you mean {near[0]}?" if near else f"Panels are {', '.join(PANELS)}."
        raise OptionError(f"There is no panel {name}.", remedy)
    missing = [package for package in ("ipywidgets", "anywidget") if util.find_spec(package) is None]
    if missing:
        raise BackendMissingError(f"Panels need {' and '.join(missing)}.", "pip install 'mlxnb[panels]'")
    panel = _open.get(name)
    if panel is None or panel.closed:
        module, made = PLACES[name]
        panel = _open[name] = getattr(import_module(f".{module}", __name__), made)()
    return panel
