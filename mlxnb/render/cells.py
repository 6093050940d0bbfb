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


@dataclass(frozen=True, slots=True)
class Bar:
    """A share, 0 to 1, of the longest bar of its column."""

    share: float


Cell = str | int | float | bool | Dot | Command | Bar | None
BAR = 24  # characters of the longest bar in text


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
        case Bar():
            return "━" * max(round(BAR * cell.share), 1 if cell.share > 0 else 0)
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
        case Bar():
            # The number beside it says the same to a screen reader.
            return f'<div class="mlxnb-bar" aria-hidden="true"><div style="width:{100 * cell.share:.1f}%"></div></div>'
    return html.escape(as_text(cell))
