"""What a table's cell may hold, and how each kind reads as HTML and as text."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Literal

from .numbers import MISSING, count, significant
from .text import one_row

Kind = Literal["success", "warning", "error", "off"]


@dataclass(frozen=True, slots=True)
class Dot:
    """A state: a coloured dot, and always the word that says the same."""

    kind: Kind
    word: str


@dataclass(frozen=True, slots=True)
class Command:
    """Something to copy and run, with words before it if needed."""

    code: str
    before: str = ""


Cell = str | int | float | bool | Dot | Command | None


def is_number(cell: Cell) -> bool:
    """Whether a cell is aligned to the right."""
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def as_text(cell: Cell) -> str:
    """A cell's words, on one line."""
    match cell:
        case None:
            return MISSING
        case bool():
            return "yes" if cell else "no"
        case int():
            return count(cell)
        case float():
            return significant(cell)
        case Dot():
            return f"● {one_row(cell.word)}"
        case Command():
            return one_row(f"{cell.before} {cell.code}")
    return one_row(cell)


def as_html(cell: Cell) -> str:
    """A cell's content, escaped."""
    match cell:
        case Dot():
            dot = f'<span class="mlxnb-{cell.kind}">●</span>'
            return f'<span class="mlxnb-state">{dot} {html.escape(one_row(cell.word))}</span>'
        case Command():
            before = html.escape(one_row(cell.before))
            return f"{before} <code>{html.escape(one_row(cell.code))}</code>".lstrip()
    return html.escape(as_text(cell))
