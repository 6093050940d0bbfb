"""The tables of models to take, from the catalogue and this machine."""

from __future__ import annotations

from collections.abc import Sequence

from ..models.attention import attention_pattern
from ..models.recommended import READING, Recommended, catalogue
from .cells import Cell, Command, Dot
from .models import STATES
from .numbers import significant, size
from .table import Table

TAKE = (
    "model",
    "state",
    ("fits up to", "tokens"),
    "stored as",
    ("needs", "GB"),
    ("at most", "tok/s"),
    "fetch and load it",
)
ABOUT = ("model", ("parameters", "B"), ("active", "B"), "attention", ("class", "GB"), "released", "licence", "for")


def recommended_tables(found: Sequence[Recommended], use: str) -> list[Table]:
    """Models for a use that fit now, the best first, each with the line that takes it; then what they are."""
    dated = catalogue()[0]
    if not found:
        nothing = Command("%mlxnb load pocket", "No model of the catalogue fits into what is free now. This one does:")
        return [Table([use], [[nothing]], caption=f"Catalogue of {dated}")]
    free = size(found[0].room.free)
    caption = f"For {use}, from the catalogue of {dated} · {free} of memory free · {_rates(found)}"
    return [
        Table(TAKE, [_take(each) for each in found], bold="model", caption=caption),
        Table(ABOUT, [_about(each, use) for each in found], caption="What they are"),
    ]


def _rates(found: Sequence[Recommended]) -> str:
    if any(each.rate is None for each in found):
        return "no rate without a measured bandwidth: mlxnb doctor measures it"
    return f"rates estimated from measured bandwidth, those below {significant(READING)} tok/s last"


def _take(each: Recommended) -> tuple[Cell, ...]:
    room = each.room
    how = f" --quantize {each.quantize}" if each.quantize else ""
    return (
        each.model.name,
        Dot(STATES[room.state], room.state),
        room.most,
        each.precision,
        room.need / 1e9,
        each.rate,
        Command(f"%mlxnb load {each.name}{how}"),
    )


def _about(each: Recommended, use: str) -> tuple[Cell, ...]:
    model = each.model
    return (
        model.name,
        model.parameters / 1e9,
        model.active / 1e9,
        attention_pattern(model.shape),
        model.memory_class(),
        model.released,
        model.licence,
        f"drafting for {model.drafts_for}" if use == "drafting" else use,
    )
