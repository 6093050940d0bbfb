"""The tables that `%mlxnb` shows: what is in memory, what is on this machine, and which settings hold."""

from __future__ import annotations

from collections.abc import Sequence

from ..backends.base import ModelInfo
from ..config import Settings
from ..render import Table
from ..render.models import NOTHING, precision
from ..render.numbers import size
from ..runtime import Status
from .defaults import MLXNB

COLUMNS = ("model", "backend", "device", "dtype", ("parameters", "M"), ("memory", "MB"), ("context", "tokens"))


def status_table(status: Status) -> Table:
    """What the engine is doing, and what it holds."""
    doing = f"running {status.running}" if status.running else "idle"
    queued = f", {status.queued} waiting" if status.queued else ""
    free = f"{size(status.memory_free)} of {size(status.memory_total)} memory free"
    return loaded_table(status.loaded, f"Engine: {doing}{queued} · {free}")


def loaded_table(infos: Sequence[ModelInfo], caption: str) -> Table:
    """Models in memory."""
    if not infos:
        return Table(["models"], [[NOTHING]], caption=caption)
    return Table(COLUMNS, [_loaded_row(info) for info in infos], bold="model", caption=caption)


def notes_table(info: ModelInfo) -> Table:
    """What a person should know of a model that was just loaded, and what to do where it is not what they asked for."""
    notes: list[tuple[str, str]] = [(note, "") for note in info.notes]
    for refused in info.refused:
        said = next((i for i, (note, _) in enumerate(notes) if note.startswith(f"{refused.subject} ")), None)
        if said is not None:
            notes[said] = (notes[said][0], refused.remedy)
    return Table(("note", "what to do"), notes, caption=f"Notes on {info.name}")


def _loaded_row(info: ModelInfo) -> tuple[str | float | None, ...]:
    # A server keeps its models elsewhere, and does not tell how large they are.
    sizes = (info.parameters / 1e6 or None, info.memory / 1e6 or None, info.context_length)
    return (info.name, info.backend, info.device, precision(info), *sizes)


def config_table(defaults: MLXNB, environment: Settings) -> Table:
    """Every setting, its value and where that came from."""
    names = sorted(defaults.class_own_traits(config=True))
    rows = [(name, _word(getattr(defaults, name)), defaults.origin(name)) for name in names]
    others = [name for name in environment.origin if name not in names]
    rows += [(name, _word(getattr(environment, name)), environment.origin[name]) for name in others]
    return Table(("setting", "value", "from"), rows, bold="value")


def _word(value: object) -> str:
    return "none" if value is None else str(value)
