"""The tables that `%mlxnb` shows: what is in memory, what is on this machine, and which settings hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..backends.base import ModelInfo
from ..config import SETTINGS, Settings
from ..errors import OptionError
from ..render import Table
from ..render.cells import Cell, Dot
from ..render.models import NOTHING, precision, with_adapter
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
    return (with_adapter(info), info.backend, info.device, precision(info), *sizes)


def config_table(defaults: MLXNB, environment: Settings) -> Table:
    """Every setting, its value, where that came from, and what else was given and does not hold."""
    names = sorted(defaults.class_own_traits(config=True))
    rows = [_config_row(name, partial(getattr, defaults, name), defaults.givers(name)) for name in names]
    others = [name for name in SETTINGS if name not in names]
    rows += [_config_row(name, partial(_shown, environment, name), environment.givers(name)) for name in others]
    trouble = environment.file.trouble
    caption = f"{environment.file.path} was not read: {trouble}" if trouble else ""
    return Table(("setting", "value", "from", "overrides"), rows, bold="value", caption=caption)


def _config_row(name: str, read: Callable[[], object], givers: Sequence[str]) -> tuple[Cell, ...]:
    origin, overrides = (givers or ["default"])[0], ", ".join(givers[1:])
    try:
        return name, _word(read()), origin, overrides
    except OptionError as err:
        return name, Dot("error", str(err)), origin, overrides


def _shown(environment: Settings, name: str) -> object:
    value = getattr(environment, name)
    return "set, not shown" if value is not None and SETTINGS[name].secret else value


def _word(value: object) -> str:
    return "none" if value is None else str(value)
