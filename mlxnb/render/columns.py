"""Columns of text that fit a terminal: where they are too wide, cells go on in further lines at word boundaries."""

from __future__ import annotations

import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import TextIO

GAP = 2  # characters between two columns
LEAST = 40  # characters; a terminal that is narrower, or says nothing sensible, is taken for one of so many


def terminal() -> TextIO | None:
    """Where a person sees what goes on: standard output, or beside an output that goes to a file, standard error."""
    return next((stream for stream in (sys.stdout, sys.stderr) if stream is not None and stream.isatty()), None)


def terminal_width() -> int:
    """Characters of a line of the terminal."""
    return max(LEAST, shutil.get_terminal_size().columns)


def line_width() -> int | None:
    """Characters of a line of standard output; None where that is no terminal, and lines have no end."""
    return terminal_width() if sys.stdout.isatty() else None


def width(text: str) -> int:
    """Terminal columns that a text takes: two for a wide character."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def widths(grid: Sequence[Sequence[str]], room: int | None = None) -> list[int]:
    """The width of each column of a grid, whose first row are titles: what its longest cell takes, or less, down to its
    longest word, until all of them fit into `room`. Titles give way before what stands under them, the widest first.
    """
    columns = list(zip(*grid, strict=True))
    found = [max(map(width, column)) for column in columns]
    if room is None:
        return found
    words = [max(width(word) for cell in column for word in cell.split(" ")) for column in columns]
    under = [max(map(width, column[1:]), default=0) for column in columns]
    for least in (list(map(max, words, under)), words):
        while sum(found) + GAP * (len(found) - 1) > room and found != least:
            found[max((i for i in range(len(found)) if found[i] > least[i]), key=lambda i: found[i])] -= 1
    return found


def row(cells: Sequence[str], sizes: Sequence[int], right: Sequence[bool], *, bottom: bool = False) -> str:
    """One row of a grid, in as many lines as its longest cell needs; cells of fewer stand at the top, or `bottom`."""
    parts = [wrapped(cell, size) for cell, size in zip(cells, sizes, strict=True)]
    most = max(map(len, parts))
    parts = [[""] * (most - len(part)) + part if bottom else part + [""] * (most - len(part)) for part in parts]
    return "\n".join(_line([part[k] for part in parts], sizes, right) for k in range(most))


def wrapped(text: str, size: int | None) -> list[str]:
    """A text in lines of at most `size` characters; a longer word has a line of its own."""
    if size is None or width(text) <= size:
        return [text]
    return textwrap.wrap(text, max(1, size), break_long_words=False, break_on_hyphens=False) or [""]


def _line(cells: Sequence[str], sizes: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for text, size, numbers in zip(cells, sizes, right, strict=True):
        gap = " " * (size - width(text))
        padded.append(gap + text if numbers else text + gap)
    return (" " * GAP).join(padded).rstrip()
