"""A report of a profile as rich HTML and as the plain text that says the same."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from . import style
from .cells import as_html, as_text
from .columns import line_width, wrapped
from .footer import SEPARATOR
from .math import LEFT_ALONE
from .text import RULE, one_row

if TYPE_CHECKING:
    from ..profiling.judge.compare import Against
    from ..profiling.report import Report
    from ..profiling.show.sections_parts import Head, Item, Line, Section

CODE = re.compile(r"`([^`]+)`")
MORE = ("report.plots() draws it", 'report.save("FOLDER") writes JSON, Markdown and pictures')


def profile_bundle(report: Report) -> dict[str, str]:
    """text/html and text/plain of a report."""
    from ..profiling.show.sections import head, sections

    return _bundle(head(report), sections(report), MORE)


def profile_parts(report: Report) -> tuple[str, str]:
    """HTML of a report without a style sheet, in two: down to what limits it, and the rest. For a panel, which has
    buttons in the place of the lines that try a remedy.
    """
    from ..profiling.show.sections import LIMITS, head, sections

    found = [_untried(section) if section.title == LIMITS else section for section in sections(report)]
    place = next((i for i, section in enumerate(found) if section.title == LIMITS), 0) + 1
    first = _head(head(report)) + "".join(map(_section, found[:place]))
    return _report(first), _report("".join(map(_section, found[place:])))


def _untried(section: Section) -> Section:
    items = [replace(item, lines=tuple(n for n in item.lines if n.label != "try it")) for item in section.items]
    return replace(section, items=tuple(items))


def _report(inner: str) -> str:
    return f'<div class="mlxnb mlxnb-report {LEFT_ALONE}">{inner}</div>'


def against_bundle(found: Against) -> dict[str, str]:
    """The same of a report beside an earlier one."""
    from ..profiling.show.sections_against import against_head, against_sections

    return _bundle(against_head(found), against_sections(found), ())


def _bundle(head: Head, sections: tuple[Section, ...], more: tuple[str, ...]) -> dict[str, str]:
    parts = [_head(head), *map(_section, sections)]
    if more:
        parts.append(f"<hr>{_small(SEPARATOR.join(more))}")
    return {
        "text/plain": "\n\n".join([_head_text(head), *map(_section_text, sections)]),
        "text/html": style.page(
            *parts, css=style.TABLE + style.FOOTER + style.REPORT, kind=f"mlxnb-report {LEFT_ALONE}"
        ),
    }


def _head(head: Head) -> str:
    partial = f'<div class="mlxnb-footer"><span class="mlxnb-warn">{_said(head.partial)}</span></div>'
    line = SEPARATOR.join(f"<span>{_said(part)}</span>" for part in head.line)
    return _heading(head.title) + f'<div class="mlxnb-footer">{line}</div>' + (partial if head.partial else "")


def _heading(title: str) -> str:
    return f'<h4 class="mlxnb-heading">{_said(title)}</h4>'


def _section(section: Section) -> str:
    tables = "".join(table.part(whole=section.folded) for table in section.tables)
    tables = f'<div class="mlxnb-beside">{tables}</div>' if section.beside else tables
    inner = "".join(map(_item, section.items)) + tables
    if section.folded:
        return f'<details class="mlxnb-folded"><summary>{_said(section.title)}</summary>{inner}</details>'
    return _heading(section.title) + inner


def _item(item: Item) -> str:
    where = f' <span class="mlxnb-where">· {_said(item.where)}</span>' if item.where else ""
    head = f"<div><strong>{as_html(item.state)}</strong>{where}</div>"
    return f'<div class="mlxnb-item">{head}{"".join(map(_line, item.lines))}</div>'


def _line(line: Line) -> str:
    label = f'<span class="mlxnb-label">{_said(line.label)}:</span>' if line.label else ""
    code = f"<code>{_said(line.code)}</code>" if line.code else ""
    return f"<div>{' '.join(filter(None, [label, _with_code(line.text), code]))}</div>"


def _with_code(text: str) -> str:
    """A text whose parts between backticks are code."""
    return CODE.sub(r"<code>\1</code>", _said(text))


def _said(text: str) -> str:
    return html.escape(one_row(text))


def _small(text: str) -> str:
    return f'<div class="mlxnb-footer">{_said(text)}</div>'


def _head_text(head: Head) -> str:
    line = wrapped(SEPARATOR.join(map(one_row, head.line)), line_width())
    return "\n".join(filter(None, [one_row(head.title), RULE, *line, one_row(head.partial)]))


def _section_text(section: Section) -> str:
    items = ["\n".join(_item_text(item)) for item in section.items]
    return "\n\n".join([one_row(section.title).upper(), *items, *(table.text() for table in section.tables)])


def _item_text(item: Item) -> list[str]:
    where = f" · {one_row(item.where)}" if item.where else ""
    lines, room = [f"{as_text(item.state)}{where}"], line_width()
    for line in item.lines:
        label = f"{line.label}:" if line.label else ""
        said = " ".join(filter(None, map(one_row, (label, line.text, line.code))))
        first, *rest = wrapped(said, None if room is None else room - 4)
        lines += [f"  {first}", *(f"    {more}" for more in rest)]
    return lines
