"""Tables for status, models, backends and findings: quiet HTML with a plain twin, every cell escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from . import columns, style
from .cells import Cell, as_html, as_text, is_number
from .math import LEFT_ALONE
from .numbers import plural
from .text import RULE, one_row

SHOWN = 10
KIND = f"mlxnb-table {LEFT_ALONE}"


class Table:
    """Rows under named columns; as a cell's value it shows itself.

    A column is a title or a (title, unit) pair. A cell is text, a number, a bool, None, or one of `cells.Dot` and
    `cells.Command`. A column with numbers only is aligned to the right. `bold` names the one column that stands out,
    `caption` goes above. In HTML the rows after the tenth are folded.

    Raises:
        ValueError: a row of another length than the columns, or a `bold` that is no column.
    """

    def __init__(
        self,
        columns: Sequence[str | tuple[str, str]],
        rows: Iterable[Sequence[Cell]],
        *,
        bold: str | None = None,
        caption: str = "",
    ) -> None:
        self.columns = [column if isinstance(column, tuple) else (column, "") for column in columns]
        self.rows = [tuple(row) for row in rows]
        self.bold = bold
        self.caption = one_row(caption)
        odd = next((row for row in self.rows if len(row) != len(self.columns)), None)
        if odd is not None:
            raise ValueError(f"A row has {len(odd)} cells for {len(self.columns)} columns: {odd!r}.")
        if bold is not None and bold not in (title for title, _ in self.columns):
            raise ValueError(f"bold is {bold!r}, which is no column.")

    def mimebundle(self) -> dict[str, str]:
        """text/html and text/plain."""
        return {"text/plain": self.text(), "text/html": self.html()}

    def text(self) -> str:
        """All rows in aligned columns, no wider than the terminal where this is printed on one."""
        titles = [f"{title} ({unit})" if unit else title for title, unit in self.columns]
        grid = [[one_row(title) for title in titles], *([as_text(cell) for cell in row] for row in self.rows)]
        room = columns.line_width()
        widths = columns.widths(grid, room)
        right = [self._right(i) for i in range(len(widths))]
        head = columns.row(grid[0], widths, right, bottom=True)
        rule = "─" * min(sum(widths) + columns.GAP * (len(widths) - 1), len(RULE) * 2, room or len(RULE) * 2)
        caption = columns.wrapped(self.caption, room) if self.caption else []
        return "\n".join([*caption, head, rule, *(columns.row(row, widths, right) for row in grid[1:])])

    def html(self) -> str:
        """The table, rows after the tenth folded."""
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        return style.page(self._inner(caption), css=style.TABLE, kind=KIND)

    def part(self, whole: bool = False) -> str:
        """The table as a part of a page that brings the style sheet; the caption may be wider than the table. `whole`
        folds no row.
        """
        caption = f'<div class="mlxnb-caption">{html.escape(self.caption)}</div>' if self.caption else ""
        return f'<div class="mlxnb {KIND}">{caption}{self._inner("", len(self.rows) if whole else SHOWN)}</div>'

    def _inner(self, caption: str, shown: int = SHOWN) -> str:
        head = "".join(self._head(i, title, unit) for i, (title, unit) in enumerate(self.columns))
        rows = ["<tr>" + "".join(self._cell(i, cell) for i, cell in enumerate(row)) + "</tr>" for row in self.rows]
        body = f"<tbody>{''.join(rows[:shown])}</tbody>"
        fold = ""
        if len(rows) > shown:
            body += f'<tbody class="mlxnb-rest">{"".join(rows[shown:])}</tbody>'
            fold = f"<details><summary>{plural(len(rows) - shown, 'more row')}</summary></details>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead>{body}</table>{fold}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self.mimebundle()

    def __repr__(self) -> str:
        return self.text()

    def _right(self, index: int) -> bool:
        cells = [row[index] for row in self.rows if row[index] is not None]
        return bool(cells) and all(map(is_number, cells))

    def _head(self, index: int, title: str, unit: str) -> str:
        after = f' <span class="mlxnb-unit">{html.escape(one_row(unit))}</span>' if unit else ""
        return f'<th scope="col"{_side(self._right(index))}>{html.escape(one_row(title))}{after}</th>'

    def _cell(self, index: int, cell: Cell) -> str:
        inner = as_html(cell)
        inner = f"<strong>{inner}</strong>" if self.columns[index][0] == self.bold else inner
        return f"<td{_side(self._right(index))}>{inner}</td>"


def _side(right: bool) -> str:
    return ' class="mlxnb-right"' if right else ""
