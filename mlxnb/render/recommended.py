"""The table of models to take, from the catalogue and this machine."""

from __future__ import annotations

from collections.abc import Sequence

from ..models.attention import attention_pattern
from ..models.recommended import READING, Recommended, catalogue
from .cells import Cell, Command, Dot
from .models import STATES
from .numbers import significant, size
from .table import Table

COLUMNS = (
    "model",
    "state",
    ("fits up to", "tokens"),
    "stored as",
    ("needs", "GB"),
    ("at most", "tok/s"),
    ("parameters", "B"),
    ("active", "B"),
    "attention",
    ("class", "GB"),
    "released",
    "licence",
    "fetch and load it",
)


def recommended_table(found: Sequence[Recommended], use: str) -> Table:
    """Models for a use that fit now, the best first."""
    dated = catalogue()[0]
    if not found:
        nothing = Command("%mlxnb load pocket", "No model of the catalogue fits into what is free now. This one does:")
        return Table([use], [[nothing]], caption=f"Catalogue of {dated}")
    rows = [_row(each) for each in found]
    rate = _rates(found)
    caption = f"For {use}, from the catalogue of {dated} · {size(found[0].room.free)} of memory free · {rate}"
    return Table(COLUMNS, rows, bold="model", caption=caption)


def _rates(found: Sequence[Recommended]) -> str:
    if any(each.rate is None for each in found):
        return "no rate without a measured bandwidth: mlxnb doctor measures it"
    return f"rates estimated from measured bandwidth, those below {significant(READING)} tok/s last"


def _row(each: Recommended) -> tuple[Cell, ...]:
    model, room = each.model, each.room
    return (
        model.name,
        Dot(STATES[room.state], room.state),
        room.most,
        each.precision,
        room.need / 1e9,
        each.rate,
        model.parameters / 1e9,
        model.active / 1e9,
        attention_pattern(model.shape),
        model.memory_class(),
        model.released,
        model.licence + (f" · drafts for {model.drafts_for}" if model.drafts_for else ""),
        Command(f"%mlxnb load {each.name}" + (f" --quantize {each.quantize}" if each.quantize else "")),
    )
