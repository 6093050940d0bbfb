"""The live area of a cell: text as it comes, then the finished output exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .area import Area
from .formats import known
from .pace import Pace
from .progress import Progress, State
from .terminal import Terminal

if TYPE_CHECKING:
    from ..result import Result


class View(Protocol):
    """A place that shows one answer while it grows."""

    def start(self) -> None:
        """Take the place."""

    def show(self, progress: Progress) -> None:
        """Show how far the answer has come."""

    def finish(self, result: Result) -> None:
        """Show the finished answer, once."""

    def close(self) -> None:
        """Leave nothing of the unfinished answer behind."""


class LiveCell:
    """One answer being shown, in a notebook or a terminal. All calls come from the thread that runs the cell.

    `format` is that of `mimebundle`; `model` is the model's name, for the small print.

    Raises:
        ValueError: an unknown format.
    """

    def __init__(self, format: str = "markdown", model: str = "", pace: Pace | None = None) -> None:
        self._view = _view(known(format), model)
        self._pace = pace or Pace()

    def start(self) -> None:
        """Open the area; nothing is visible yet."""
        self._view.start()

    def update(
        self,
        text: str = "",
        thinking: str = "",
        prefill_done: int = 0,
        prefill_total: int = 0,
        state: State = "generating",
        tokens: int = 0,
        doing: str = "",
    ) -> bool:
        """Show the answer so far; returns False if it was left out because the last one was a moment ago.

        `text` and `thinking` are everything so far, not the newest piece. `prefill_done` of `prefill_total` prompt
        tokens are computed; `tokens` are generated; `doing` is told beside loading. Call it as often as there is news.
        """
        return self.show(Progress(text, thinking, prefill_done, prefill_total, state, tokens, doing))

    def show(self, progress: Progress) -> bool:
        """`update` with a moment as one value."""
        if not self._pace.due():
            return False
        self._view.show(progress)
        self._pace.done()
        return True

    def finish(self, result: Result) -> None:
        """Replace the area by the finished output, which is the only one that a saved notebook holds."""
        self._view.finish(result)

    def close(self) -> None:
        """Empty the area without an output: after an error, whose message then stands alone."""
        self._view.close()


def _view(format: str, model: str) -> View:
    shell = _shell()
    if shell is not None and getattr(shell, "kernel", None) is not None:
        return Area(shell.display_pub, format, model)
    return Terminal(format, model)


def _shell() -> Any:
    from IPython.core.getipython import get_ipython

    return get_ipython()
