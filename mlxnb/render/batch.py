"""How far a batch is: one bar in the cell or on the terminal's last line, and a quiet line once it is over."""

from __future__ import annotations

import html
import shutil
import sys
import uuid
from typing import TYPE_CHECKING

from . import style
from .numbers import count, duration, plural, rate
from .pace import Pace
from .work import publisher

if TYPE_CHECKING:
    from ..runtime.batch import Progress

# Characters of the bar in a terminal.
WIDTH = 24


class BatchBar:
    """Shows each Progress that it is called with, at most 15 a second. All calls come from one thread.

    In a notebook it is one display that is updated in place; in a terminal one line of stderr that is written over.
    Where stderr is a file or a pipe, and inside `%%capture`, nothing is shown.
    """

    def __init__(self, pace: Pace | None = None) -> None:
        self._pace = pace or Pace()
        self._publisher = publisher()
        self._terminal = self._publisher is None and sys.stderr is not None and sys.stderr.isatty()
        self._id = uuid.uuid4().hex
        self._last: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        """Show it, unless the last one was a moment ago."""
        first, self._last = self._last is None, progress
        if not self._pace.due():
            return
        if self._publisher is not None:
            page = style.page(_bar(progress) + _small(words(progress)), css=style.FOOTER, kind="mlxnb-batch")
            self._publish(page, "", update=not first)
        elif self._terminal:
            _write_over(f"{_drawn(progress)} {words(progress)}")
        self._pace.done()

    def close(self) -> None:
        """Leave one line that says how far it came."""
        if self._last is None:
            return
        said = summary(self._last)
        if self._publisher is not None:
            self._publish(style.page(_small(said), css=style.FOOTER, kind="mlxnb-batch"), said, update=True)
        elif self._terminal:
            _write_over(f"{said}\n")

    def _publish(self, page: str, text: str, update: bool) -> None:
        data = {"text/plain": text, "text/html": page}
        self._publisher.publish(data=data, metadata={}, transient={"display_id": self._id}, update=update)


def words(progress: Progress) -> str:
    """A moment of it: what is done, how fast, and how long it may still take."""
    if not progress.seconds and progress.done < progress.total:
        return f"{_done(progress)} · waiting for the model"
    left = progress.seconds_left
    return " · ".join(filter(None, [*_figures(progress), f"about {duration(left)} left" if left else ""]))


def summary(progress: Progress) -> str:
    """What it came to."""
    return " · ".join([*_figures(progress), duration(progress.seconds)])


def _figures(progress: Progress) -> list[str]:
    speed = progress.tokens_per_second
    failed = f"{count(progress.failed)} failed" if progress.failed else ""
    kept = f"{count(progress.kept)} kept from before" if progress.kept else ""
    parts = [_done(progress), kept, failed, plural(progress.tokens, "token"), rate(speed) if speed else ""]
    return [part for part in parts if part]


def _done(progress: Progress) -> str:
    return f"{count(progress.done)} of {plural(progress.total, 'prompt')}"


def _small(said: str) -> str:
    return f'<div class="mlxnb-footer">{html.escape(said)}</div>'


def _bar(progress: Progress) -> str:
    return (
        f'<div class="mlxnb-progress" role="progressbar" aria-label="{html.escape(_done(progress))}" aria-valuemin="0"'
        f' aria-valuemax="{progress.total}" aria-valuenow="{progress.done}">'
        f'<div style="width:{100 * progress.share:.1f}%"></div></div>'
    )


def _drawn(progress: Progress) -> str:
    filled = round(WIDTH * progress.share)
    return "━" * filled + "─" * (WIDTH - filled)


def _write_over(line: str) -> None:
    """The last line of stderr, cut where it would wrap: what wrapped could not be written over."""
    end = "\n" if line.endswith("\n") else ""
    width = max(1, shutil.get_terminal_size().columns - 1)
    print(f"\r\x1b[K{line.rstrip()[:width]}", end=end, file=sys.stderr, flush=True)
