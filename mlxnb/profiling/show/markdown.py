"""A report as Markdown that reads well on GitHub: the same sections as in a notebook, its tables as tables."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...render.cells import Cell, Command, Dot, as_text, is_number
from ...render.table import Table
from ...render.text import one_row
from ..report import Report
from .sections import head, sections
from .sections_parts import Head, Item, Line, Section

# What begins something in GitHub's Markdown, anywhere in a line.
SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$&])")
CODE = re.compile(r"`([^`]+)`")


def to_markdown(report: Report, pictures: Mapping[str, str] | None = None) -> str:
    """The report; `pictures` are files of its plots by the plots' names, shown in the sections that they belong to."""
    parts = [_head(head(report)), *(_section(each, pictures or {}) for each in sections(report))]
    return "\n\n".join(parts) + "\n"


def _head(top: Head) -> str:
    line = " · ".join(map(escaped, top.line))
    partial = f"> **{escaped(top.partial)}**" if top.partial else ""
    return "\n\n".join(filter(None, [f"# {escaped(top.title)}", line, partial]))


def _section(section: Section, pictures: Mapping[str, str]) -> str:
    shown = [f"![{escaped(name.replace('-', ' '))}]({pictures[name]})" for name in section.plots if name in pictures]
    inner = "\n\n".join([*map(_item, section.items), *map(_table, section.tables), *shown])
    if section.folded:
        return f"<details>\n<summary>{escaped(section.title)}</summary>\n\n{inner}\n\n</details>"
    return f"## {escaped(section.title)}\n\n{inner}"


def _item(item: Item) -> str:
    where = f" · {escaped(item.where)}" if item.where else ""
    state = item.state.word if isinstance(item.state, Dot) else item.state
    lines = [f"- **{escaped(state)}**{where}", *(f"  - {_line(line)}" for line in item.lines)]
    return "\n".join(lines)


def _line(line: Line) -> str:
    label = f"*{escaped(line.label)}*:" if line.label else ""
    # Odd parts of the split stood between backticks.
    parts = CODE.split(one_row(line.text))
    text = "".join(code(part) if i % 2 else _plain(part) for i, part in enumerate(parts))
    return " ".join(filter(None, [label, text, code(line.code) if line.code else ""]))


def _table(table: Table) -> str:
    titles = [escaped(f"{title} ({unit})" if unit else title) for title, unit in table.columns]
    bold = [title == table.bold for title, _ in table.columns]
    right = [_numbers(table, i) for i in range(len(table.columns))]
    lines = [
        _row(titles),
        _row(["---:" if each else "---" for each in right]),
        *(_row([_cell(cell, strong) for cell, strong in zip(row, bold, strict=True)]) for row in table.rows),
    ]
    caption = [escaped(table.caption), ""] if table.caption else []
    return "\n".join([*caption, *lines])


def _numbers(table: Table, column: int) -> bool:
    cells = [row[column] for row in table.rows if row[column] is not None]
    return bool(cells) and all(map(is_number, cells))


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell, strong: bool) -> str:
    match cell:
        case Command():
            before = f"{escaped(cell.before)} " if cell.before else ""
            return before + code(cell.code).replace("|", "\\|")
        case Dot():
            return escaped(f"● {cell.word}")
    text = escaped(as_text(cell))
    return f"**{text}**" if strong and text else text


def escaped(text: str) -> str:
    """A text on one line that GitHub shows as it is, but for addresses, which become links."""
    return _plain(one_row(text))


def _plain(text: str) -> str:
    return SPECIAL.sub(r"\\\1", text)


def code(text: str) -> str:
    """A text as code, between more backticks than it has in a row."""
    text = one_row(text)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}" if text else ""
