"""The table of perplexities: a row a text, and one for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cells import Cell, Dot
from .footer import model_label
from .numbers import plural
from .table import Table
from .text import one_row

if TYPE_CHECKING:
    from ..runtime.perplexities import Measured, Perplexities

# Characters of a text that tell which one it is.
BEGINNING = 60


def perplexity_table(found: Perplexities) -> Table:
    """Each text with its tokens and its perplexity, lower being better."""
    info, rows = found.info, [*map(_row, found.texts)]
    if len(rows) > 1:
        failed = sum(each.found is None for each in found.texts)
        left_out = Dot("warning", f"without {plural(failed, 'text')}") if failed else ""
        rows.insert(0, ("all of them", found.total.tokens, found.total.value, left_out))
    where = f"{model_label(info.name, info.adapter)} · {info.backend} {info.device} · {info.quantization or info.dtype}"
    return Table(["text", "tokens", "perplexity", "note"], rows, bold="perplexity", caption=where)


def _row(each: Measured) -> tuple[Cell, ...]:
    said = one_row(each.text if isinstance(each.text, str) else f"{each.text[0]} → {each.text[1]}")
    shown = said if len(said) <= BEGINNING else f"{said[: BEGINNING - 1]}…"
    if each.found is None:
        return shown, None, None, Dot("error", str(each.error))
    note = f"in {each.pieces} pieces, as long as the context" if each.pieces > 1 else ""
    return shown, each.found.tokens, each.found.value, note
