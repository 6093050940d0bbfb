"""The place where work other than a generation shows how far it is: one line that is gone when the work is done."""

from __future__ import annotations

import html
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any

from . import style
from .columns import terminal, terminal_width
from .numbers import count
from .pace import INTERVAL, Pace
from .text import one_row, shortened

BLANK = {"text/plain": "", "text/html": ""}


def steps(done: int, total: int) -> str:
    """How far it is, in steps."""
    return f"{count(done)} of {count(total)}" if total else ""


class WorkCell:
    """Shows `title`, how far it is in `words`, and what is being done, in a notebook or on a terminal's last line.

    At least `interval` seconds lie between two updates. All calls come from the thread that runs the cell.
    """

    def __init__(self, title: str, words: Callable[[int, int], str] = steps, interval: float = INTERVAL) -> None:
        self._title, self._words = title, words
        self._pace = Pace(interval=interval)
        self._publisher = publisher()
        self._id = uuid.uuid4().hex

    def __enter__(self) -> WorkCell:
        if self._publisher is not None:
            self._publish(BLANK)
        return self

    def update(self, done: int, total: int, doing: str = "") -> None:
        """`done` of `total` steps are behind, `doing` is under way. Left out if the last one was a moment ago."""
        if not self._pace.due():
            return
        words = one_row(" · ".join(filter(None, [self._title, self._words(done, total), doing])))
        if self._publisher is not None:
            self._publish({"text/plain": "", "text/html": _page(done, total, words)}, True)
        elif (screen := terminal()) is not None:
            # A line that is longer than the screen would go on below, where nothing wipes it away.
            print(f"\r\x1b[K{shortened(words, terminal_width() - 1)}", end="", flush=True, file=screen)
        self._pace.done()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._publisher is not None:
            self._publish(BLANK, True)
        elif (screen := terminal()) is not None:
            print("\r\x1b[K", end="", flush=True, file=screen)

    def _publish(self, bundle: dict[str, str], update: bool = False) -> None:
        self._publisher.publish(data=dict(bundle), metadata={}, transient={"display_id": self._id}, update=update)


def _page(done: int, total: int, words: str) -> str:
    return style.page(progress_html(done, total, words), css=style.FOOTER, kind="mlxnb-work")


def progress_html(done: int, total: int, words: str) -> str:
    """A line that fills, and under it `words`."""
    share = 100 * min(1.0, done / total) if total else 0.0
    label = html.escape(words)
    return (
        f'<div class="mlxnb-progress" role="progressbar" aria-label="{label}" aria-valuemin="0"'
        f' aria-valuemax="{total}" aria-valuenow="{done}"><div style="width:{share:.1f}%"></div></div>'
        f'<div class="mlxnb-footer">{label}</div>'
    )


def publisher() -> Any:
    """The notebook's display publisher; None in a terminal, and where outputs are captured."""
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if getattr(shell, "kernel", None) is None or isinstance(shell.display_pub, CapturingDisplayPublisher):
        return None
    return shell.display_pub
