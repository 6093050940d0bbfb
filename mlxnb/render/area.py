"""The live area in a notebook: one display that is updated in place and left blank, then one ordinary output."""

from __future__ import annotations

import html
import uuid
from typing import TYPE_CHECKING, Any

from .code import highlight
from .footer import Item, line, model_label
from .formats import Body, as_code, as_html, as_text
from .result import mimebundle, whole
from .stream import Growing
from .text import one_row

if TYPE_CHECKING:
    from ..result import Result
    from .progress import Progress

BLANK = {"text/plain": "", "text/html": ""}
# Characters of a thought's end that fit on one line of a narrow notebook.
THOUGHT_SHOWN = 90


class Area:
    """A place in a notebook's output. `publisher` is the shell's display publisher."""

    def __init__(self, publisher: Any, format: str, model: str) -> None:
        self._publisher = publisher
        self._format = format
        self._model = model
        self._id = uuid.uuid4().hex
        self._growing = Growing()

    def start(self) -> None:
        """Publish the blank display that the updates will fill."""
        if self._live:
            self._publish(BLANK, {"display_id": self._id})

    def show(self, progress: Progress) -> None:
        """Fill the area with the answer so far."""
        if self._live:
            self._publish({"text/plain": "", "text/html": self.html(progress)}, {"display_id": self._id}, update=True)

    def finish(self, result: Result) -> None:
        """Publish the finished output and blank the area: in this order, so that the page never gets shorter."""
        self._publish(mimebundle(result, self._format), {})
        self.close()

    def close(self) -> None:
        """Blank the area."""
        if self._live:
            self._publish(BLANK, {"display_id": self._id}, update=True)

    def html(self, progress: Progress) -> str:
        """The page of an unfinished answer."""
        entries = [Item(text) for text in (model_label(self._model), progress.words()) if text]
        return whole(self._body(progress.text), _thinking(progress), progress.line() + line(entries), live=True)

    def _body(self, text: str) -> Body:
        if not text:
            return Body("", "")
        if self._format == "markdown":
            return Body(self._growing.html(text), text)
        if self._format == "json":
            return Body(highlight(text, "json"), text)
        return {"code": as_code, "html": as_html}.get(self._format, as_text)(text)

    @property
    def _live(self) -> bool:
        # Inside %%capture the publisher keeps every message: only the finished output should be among them.
        from IPython.core.displaypub import CapturingDisplayPublisher

        return not isinstance(self._publisher, CapturingDisplayPublisher)

    def _publish(self, bundle: dict[str, str], transient: dict[str, str], update: bool = False) -> None:
        self._publisher.publish(data=dict(bundle), metadata={}, transient=transient, update=update)


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
