"""An answer that is still being written, as HTML: what has come so far, and how far that is."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from .code import highlight
from .footer import Item, line, model_label
from .formats import Body, as_code, as_html, as_text
from .result import answer_html, whole
from .stream import Growing
from .text import one_row

if TYPE_CHECKING:
    from .progress import Progress

# Characters of a thought's end that fit on one line of a narrow notebook.
THOUGHT_SHOWN = 90


class Unfinished:
    """Draws one answer again and again while it grows, at the price of its last block. `format` is that of
    `mimebundle`; `model` is the model's name, for the small print.
    """

    def __init__(self, format: str, model: str) -> None:
        self._format, self._model = format, model
        self._growing = Growing()

    def page(self, progress: Progress) -> str:
        """With the style sheet, as an output of its own."""
        return whole(*self._drawn(progress), live=True)

    def part(self, progress: Progress) -> str:
        """Without it, as a part of a page that brings it."""
        body, thinking, footer = self._drawn(progress)
        return answer_html(body) + thinking + footer

    def _drawn(self, progress: Progress) -> tuple[Body, str, str]:
        entries = [Item(text) for text in (model_label(self._model), progress.words()) if text]
        return self._body(progress.text), _thinking(progress), progress.line() + line(entries)

    def _body(self, text: str) -> Body:
        if not text:
            return Body("", "")
        if self._format == "markdown":
            return Body(self._growing.html(text), text)
        if self._format == "json":
            return Body(highlight(text, "json"), text)
        return {"code": as_code, "html": as_html}.get(self._format, as_text)(text)


def _thinking(progress: Progress) -> str:
    """While the model only thinks, the end of its thoughts on one line; afterwards the folded line's place."""
    if not progress.thinking:
        return ""
    if progress.text:
        return '<details class="mlxnb-thought"><summary>Thought</summary></details>'
    words = one_row(progress.thinking)
    if len(words) > THOUGHT_SHOWN:
        words = "… " + words[-THOUGHT_SHOWN:].partition(" ")[2]
    return f'<div class="mlxnb-thinking">{html.escape(words)}</div>'
