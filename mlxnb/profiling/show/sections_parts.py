"""What a shown report is made of: sections of tables and items, whichever way they are shown."""

from __future__ import annotations

from dataclasses import dataclass

from ...render.cells import Dot
from ...render.table import Table


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an item: text, with `label` before it in small and code to copy after it."""

    text: str
    label: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """Something with several things to say of it, such as a finding: its state or its name, and what it is about."""

    state: Dot | str
    where: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with items and tables under it; `plots` names those that show the same. `folded` hides it at first,
    `beside` puts its tables side by side where there is room.
    """

    title: str
    tables: tuple[Table, ...] = ()
    items: tuple[Item, ...] = ()
    plots: tuple[str, ...] = ()
    folded: bool = False
    beside: bool = False


@dataclass(frozen=True, slots=True)
class Head:
    """The top of a report: what it is of, how it came to be, and why it is not whole if it is not."""

    title: str
    line: tuple[str, ...]
    partial: str


def without_empty(table: Table) -> Table:
    """The table without the columns in which nothing stands."""
    if not table.rows:
        return table
    kept = [i for i in range(len(table.columns)) if any(row[i] not in (None, "") for row in table.rows)]
    rows = [tuple(row[i] for i in kept) for row in table.rows]
    return Table([table.columns[i] for i in kept], rows, bold=table.bold, caption=table.caption)
