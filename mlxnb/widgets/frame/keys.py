"""A widget without a face: the keys of a panel, names for its sliders, and the clipboard. See keys.js."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget


class Keys(anywidget.AnyWidget):
    """Ctrl or Cmd with Enter presses the panel's primary button, Esc its stop button, wherever the focus is in it."""

    _esm = Path(__file__).with_suffix(".js")

    def focus(self, name: str) -> None:
        """Put the focus into the control with this CSS class."""
        self.send({"focus": name})

    def copy(self, text: str, then: Callable[[bool], None]) -> None:
        """Put `text` on the clipboard of whoever sees the panel; `then` hears whether the browser let it."""

        def heard(_: Any, content: dict[str, Any], __: Any) -> None:
            if "copied" in content:
                self.on_msg(heard, remove=True)
                then(bool(content["copied"]))

        self.on_msg(heard)
        self.send({"copy": text})
