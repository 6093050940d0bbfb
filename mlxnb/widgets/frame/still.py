"""The still picture of a panel: an ordinary output above the live one, which hides it for as long as it lives.

A notebook file holds it, so that it is there without a kernel, in an export to HTML and where widgets are not known.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from ...render import style

if TYPE_CHECKING:
    from ipywidgets import Widget

WIDGET = "application/vnd.jupyter.widget-view+json"
CAPTION = "A still picture of a panel. Run its cell for a live one."
CSS = """
.mlxnb.mlxnb-still{border:1px solid var(--border);border-radius:2px;padding:12px 16px}
.mlxnb-still .mlxnb-stillcaption{color:var(--secondary);font-size:var(--small);margin:8px 0 0}
.mlxnb-still .mlxnb-line{margin:8px 0;padding:8px 12px;background:var(--surface);border:1px solid var(--border)}
.mlxnb-still .mlxnb-line code{background:none;padding:0;white-space:pre-wrap;font-family:var(--mono)}
.mlxnb-still .mlxnb-table{overflow-x:auto}
.mlxnb-still .mlxnb-title{font-size:1.15em;font-weight:600;margin:0 0 8px}
"""


class Still:
    """Shows a panel: its picture, and below it the live widget. `css` is that of what the panel shows."""

    def __init__(self, css: str = "") -> None:
        self._id, self._css = uuid.uuid4().hex, css
        self._publisher: Any = None

    @property
    def hiding(self) -> str:
        """The style sheet that hides the picture, for the live panel to bring."""
        return f"<style>.jp-OutputArea-child:has(#still-{self._id}),#still-{self._id}{{display:none}}</style>"

    def show(self, publisher: Any, html: str, text: str, view: Widget) -> None:
        """Publish the picture and the live widget as two outputs of the running cell."""
        self._publisher = publisher
        publisher.publish(data=self._bundle(html, text), metadata={}, transient={"display_id": self._id}, update=False)
        widget = {"version_major": 2, "version_minor": 0, "model_id": view.model_id}
        live = {"text/plain": "", "text/html": "", WIDGET: widget}
        publisher.publish(data=live, metadata={})

    def update(self, html: str, text: str) -> None:
        """Replace the picture wherever it was shown."""
        if self._publisher is not None:
            bundle = self._bundle(html, text)
            self._publisher.publish(data=bundle, metadata={}, transient={"display_id": self._id}, update=True)

    def _bundle(self, html: str, text: str) -> dict[str, str]:
        # Where no live panel is, its output says only that it cannot be shown: the picture says that better.
        alone = (
            f".jp-OutputArea-child:has(#still-{self._id})+.jp-OutputArea-child:not(:has(.mlxnb-panel)){{display:none}}"
        )
        css = style.ANSWER + style.FOOTER + style.CODE + style.TABLE + style.REPORT + CSS + self._css + alone
        caption = f'<div class="mlxnb-stillcaption">{CAPTION}</div>'
        page = style.page(html, caption, css=css, kind="mlxnb-still")
        return {"text/plain": text, "text/html": page.replace("<div ", f'<div id="still-{self._id}" ', 1)}
