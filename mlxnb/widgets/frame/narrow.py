"""Tables in a narrow panel: rows one under the other, each cell behind its column's title, so that none scrolls."""

from __future__ import annotations

import json

from ...render.table import Table

WIDTH = 700  # pixels of the panel from which on a table has its columns beside each other


def stacking(table: Table, name: str) -> str:
    """The table as a part of a panel; `name` sets it apart from the others of that panel."""
    if len(table.columns) < 2:
        return table.part()
    at = f".mlxnb-panel .mlxnb-{name}"
    titles = [f"{title}, {unit}" if unit else title for title, unit in table.columns]
    said = "".join(
        f"{at} td:nth-child({i})::before{{content:{_quoted(f'{title}: ')}}}" for i, title in enumerate(titles[1:], 2)
    )
    rules = (
        f"{at} thead{{display:none}}{at} tr{{display:block;padding:8px 0;border-bottom:1px solid var(--border)}}"
        f"{at} td{{display:block;padding:0;text-align:left!important;overflow-wrap:anywhere}}"
        f"{at} td::before{{color:var(--secondary)}}{said}"
    )
    style = f"<style>@container (max-width:{WIDTH}px){{{rules}}}</style>"
    return f'<div class="mlxnb-{name}">{style}{table.part()}</div>'


def _quoted(text: str) -> str:
    """As a CSS string: JSON's escapes would mean something else there, and a title has neither quotes nor newlines."""
    return json.dumps("".join(c for c in text if c not in '"\\<>'), ensure_ascii=False)
