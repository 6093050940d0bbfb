"""What the models panel says of one model: what it is, and on which backend it runs and fits, with the reason."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

from ...backends.base import ModelInfo
from ...models.entry import Entry
from ...models.room import Room
from ...render.cells import Cell, Dot
from ...render.models import STATES, precision
from ...render.numbers import count, significant, size
from ...render.table import Table
from ...render.text import one_row
from ...runtime.standing import Standing
from . import memory_bar

CSS = (
    memory_bar.CSS
    + """
.mlxnb-panel .mlxnb-what{margin:8px 0 0;overflow-wrap:anywhere}
.mlxnb-panel .mlxnb-models{margin:16px 0 0;padding:8px 0 0;border-top:1px solid var(--border)}
.mlxnb-panel .mlxnb-row>:is(.widget-text,.widget-dropdown).mlxnb-into{flex:1 1 280px}
.mlxnb-panel .mlxnb-row>:is(.widget-text,.widget-dropdown).mlxnb-long{flex:0 1 512px}
.mlxnb-panel .mlxnb-row>:is(.widget-text,.widget-dropdown).mlxnb-short{flex:0 1 216px}
.mlxnb-panel .mlxnb-row>:is(.widget-text,.widget-dropdown){min-width:0;max-width:100%}
.mlxnb-panel .mlxnb-row>:is(.widget-text,.widget-dropdown).mlxnb-name{flex:0 1 440px}
.mlxnb-panel .mlxnb-broken td:nth-child(2){overflow-wrap:anywhere}
@container (max-width:700px){
.mlxnb-panel .mlxnb-list .mlxnb-table .mlxnb-state{white-space:normal}
.mlxnb-panel .mlxnb-list :is(th,td):is(:nth-child(2),:nth-child(5)){display:none}
.mlxnb-panel .mlxnb-memories :is(th,td):is(:nth-child(3),:nth-child(4)){display:none}
.mlxnb-panel .mlxnb-row>:is(.widget-text,.widget-dropdown){flex:1 1 200px!important}}
@container (max-width:420px){
.mlxnb-panel :is(.mlxnb-list,.mlxnb-broken) td{overflow-wrap:anywhere}
.mlxnb-panel .mlxnb-list :is(th,td):is(:nth-child(4),:nth-child(6)){display:none}
.mlxnb-panel .mlxnb-memories :is(th,td):is(:nth-child(5),:nth-child(6),:nth-child(7)){display:none}
.mlxnb-panel .mlxnb-places thead{display:none}
.mlxnb-panel .mlxnb-places tr{display:block;padding:4px 0}
.mlxnb-panel .mlxnb-places td{display:inline-block;padding:0 8px 0 0}
.mlxnb-panel .mlxnb-broken :is(th,td):first-child{min-width:56px}
.mlxnb-panel .mlxnb-places td:nth-child(3){display:block}}
"""
)
COLUMNS = ("backend", "state", "why, and what to do")
# A remedy of a cell's line, in the place of which the panel has a control.
ON_A_LINE = re.compile(r"\btake --backend (\w+)")


def what_html(entry: Entry | None, loaded: Sequence[ModelInfo]) -> str:
    """One line of what it is; of one that cannot be used, what is wrong with it."""
    words = html.escape(one_row(what_text(entry, loaded)))
    if entry is not None and entry.problem:
        return f'<div class="mlxnb-notice" role="status">{words}</div>'
    return f'<div class="mlxnb-secondary mlxnb-what">{words}</div>'


def what_text(entry: Entry | None, loaded: Sequence[ModelInfo]) -> str:
    """The same in words; a model that is in memory and in no list tells of itself."""
    if entry is None:
        return "; ".join(f"{info.source}, in memory on {info.backend} as {precision(info)}" for info in loaded)
    if entry.problem:
        return f"{entry.problem} {entry.remedy}".strip()
    parts = (
        f"{entry.format}, {entry.precision}" if entry.precision else entry.format,
        f"{significant(entry.parameters / 1e6)} M parameters" if entry.parameters else "",
        f"{count(entry.context)} tokens of context" if entry.context else "",
        entry.architecture,
        entry.attention,
        size(entry.size) if entry.size is not None else "",
        entry.where,
        entry.note,
    )
    return " · ".join(filter(None, parts))


def places_table(name: str, standings: Sequence[Standing], rooms: Mapping[str, Room]) -> Table:
    """Every backend, in the order that `auto` takes them."""
    rows = [_row(each, rooms.get(each.backend)) for each in standings]
    return Table(COLUMNS, rows, bold="backend", caption=f"Where {name} runs and fits")


def _row(standing: Standing, room: Room | None) -> tuple[Cell, ...]:
    if standing.loaded:
        return standing.backend, Dot("success", "in memory"), f"on {standing.device}"
    if standing.status != "ready":
        state = Dot("off", "not as it is" if standing.status == "possible" else "not installed")
        return standing.backend, state, _why(standing.reason, standing.remedy)
    if room is None:
        return standing.backend, Dot("success", "ready"), _why(standing.reason, standing.remedy)
    return standing.backend, *_fit(room)


def _fit(room: Room) -> tuple[Cell, ...]:
    need = f"needs {size(room.need)} of {size(room.free)} free: weights {size(room.weights)}, KV cache of "
    need += f"{count(room.tokens)} tokens {size(room.cache)}, working space {size(room.working)}"
    if room.state == "no":
        return Dot("error", "does not fit"), f"{need}. Unload another model, or take a smaller one."
    if room.state == "tight" and room.most is not None and room.most < room.tokens:
        return Dot("warning", f"tight: {count(room.most)} tokens fit"), f"{need}. Ask for a shorter context."
    return Dot(STATES[room.state], room.state), need


def _why(reason: str, remedy: str) -> str:
    remedy = ON_A_LINE.sub(r"choose \1 as the backend", remedy)
    return f"{reason}: {remedy}" if remedy else reason
