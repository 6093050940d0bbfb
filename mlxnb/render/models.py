"""The tables of models: what is here and whether it fits, and what stays in memory for how long."""

from __future__ import annotations

from collections.abc import Sequence

from ..backends.base import ModelInfo
from ..backends.ollama import OllamaRunning
from ..models import ModelSource
from ..models.entry import Entry
from ..models.fit import KV_ALLOWANCE
from ..models.room import Room, State
from ..runtime.residency import Resident
from .cells import Cell, Command, Dot, Kind
from .numbers import count, duration, size
from .table import Table

HERE = ("model", "where", "state", ("fits up to", "tokens"), "stored as", ("size", "MB"))
WHAT = ("model", "format", ("parameters", "M"), ("context", "tokens"), "architecture", "attention", "note")
DOWNLOADED = ("model", "commit", ("size", "MB"), "stored as", "state", "load it")
STATES: dict[State, Kind] = {"fits": "success", "tight": "warning", "no": "error"}
MEMORY = ("model", "backend", "device", "precision", ("memory", "MB"), "idle", "goes", "pinned")
NOTHING = Command("%mlxnb load pocket", "No model is in memory. Load one:")


def here_tables(entries: Sequence[Entry], loaded: Sequence[ModelInfo] = (), context: int | None = None) -> list[Table]:
    """The models on this machine, held against `context` tokens as in `inventory`; what they are; and what is wrong
    with those that cannot be used.
    """
    names = {entry.name for entry in entries}
    elsewhere = [info for info in loaded if info.name not in names]
    here = [_here_row(entry, loaded) for entry in entries] + [_elsewhere_row(info, loaded) for info in elsewhere]
    what = [_what_row(entry) for entry in entries if not entry.problem] + [_what_of(info) for info in elsewhere]
    shown = len(WHAT) if any(row[-1] for row in what) else len(WHAT) - 1  # without notes there is no column for them
    tables = [Table(HERE, here, bold="model", caption=_caption(entries, context))]
    if what:
        tables.append(Table(WHAT[:shown], [row[:shown] for row in what], caption="What they are"))
    broken = [(entry.name, entry.problem, entry.remedy) for entry in entries if entry.problem]
    if broken:
        tables.append(Table(("model", "problem", "what to do"), broken, caption="What cannot be used"))
    return tables


def downloaded_table(source: ModelSource, entry: Entry) -> Table:
    """A model that was just fetched, and how to load it."""
    row = (
        source.name,
        (source.revision or "")[:12],
        entry.size / 1e6 if entry.size is not None else None,
        entry.precision or None,
        _state(entry, ()),
        Command(f"%mlxnb load {source.name}"),
    )
    where = f"with {entry.where}" if source.format == "served" else f"in {source.path}"
    return Table(DOWNLOADED, [row], bold="model", caption=f"Here now, {where}")


def memory_table(residents: Sequence[Resident]) -> Table:
    """The models in memory: how long each was idle, and when it goes."""
    if not residents:
        return Table(["models"], [[NOTHING]])
    rows = [_memory_row(resident) for resident in sorted(residents, key=lambda r: r.idle)]
    caption = f"In memory: {size(sum(resident.info.memory for resident in residents))} of weights"
    return Table(MEMORY, rows, bold="model", caption=caption)


def ollama_table(running: Sequence[OllamaRunning]) -> Table:
    """The models in Ollama's memory, which it gives back by itself."""
    rows = [(each.name, each.memory / 1e6, each.on_gpu / 1e6, each.context_length, each.until) for each in running]
    columns = ("model", ("memory", "MB"), ("on a GPU", "MB"), ("context", "tokens"), "goes")
    return Table(columns, rows, bold="model", caption="In Ollama's memory")


def precision(info: ModelInfo) -> str:
    """What the weights of a loaded model are in."""
    return f"{info.dtype}, {info.quantization}" if info.quantization else info.dtype


def _here_row(entry: Entry, loaded: Sequence[ModelInfo]) -> tuple[Cell, ...]:
    return (
        entry.name,
        entry.where,
        _state(entry, loaded),
        entry.room.most if entry.room else None,
        entry.precision or None,
        round(entry.size / 1e6, 3) if entry.size is not None else None,  # a damaged one may have a few bytes
    )


def _what_row(entry: Entry) -> tuple[Cell, ...]:
    return (
        entry.name,
        entry.format.upper() if entry.format in ("gguf", "onnx") else entry.format,
        entry.parameters / 1e6 if entry.parameters else None,
        entry.context,
        entry.architecture or None,
        entry.attention or None,
        entry.note,
    )


def _elsewhere_row(info: ModelInfo, loaded: Sequence[ModelInfo]) -> tuple[Cell, ...]:
    """A model in memory that no list has, such as one that was loaded by its path."""
    return (info.name, info.source, _loaded(info.name, loaded), None, precision(info), None)


def _what_of(info: ModelInfo) -> tuple[Cell, ...]:
    return (info.name, None, info.parameters / 1e6 or None, info.context_length, None, info.attention or None, "")


def _state(entry: Entry, loaded: Sequence[ModelInfo]) -> Dot:
    in_memory = _loaded(entry.name, loaded)
    if in_memory is not None:
        return in_memory
    if entry.problem:
        return Dot("error", "cannot be used")
    if entry.room is not None:
        return Dot(STATES[entry.room.state], _fit_words(entry.room))
    return Dot("off", "there" if entry.path.name else "on its server")


def _loaded(name: str, loaded: Sequence[ModelInfo]) -> Dot | None:
    places = [f"{info.backend} {info.device} {precision(info)}" for info in loaded if info.name == name]
    return Dot("success", f"loaded: {', '.join(places)}") if places else None


def _fit_words(room: Room) -> str:
    if room.state == "no":
        return f"no: needs {size(room.need)}"
    if room.state == "tight" and room.most is not None and room.most < room.tokens:
        return f"tight: {count(room.most)} tokens fit"
    return room.state


def _caption(entries: Sequence[Entry], context: int | None) -> str:
    free = next((entry.room.free for entry in entries if entry.room is not None), None)
    tokens = f"{count(context or KV_ALLOWANCE)} tokens of context, or the model's own where that is shorter"
    return "" if free is None else f"{size(free)} of memory free, held against {tokens}"


def with_adapter(info: ModelInfo) -> str:
    """A model in memory by its name, and that of the adapter on it."""
    return f"{info.name} + {info.adapter}" if info.adapter else info.name


def _memory_row(resident: Resident) -> tuple[Cell, ...]:
    info = resident.info
    idle = "in use" if resident.in_use else duration(resident.idle)
    goes = "stays" if resident.goes is None else f"in {duration(resident.goes)}"
    return (
        with_adapter(info),
        info.backend,
        info.device,
        precision(info),
        info.memory / 1e6,
        idle,
        goes,
        Dot("success", "pinned") if resident.pinned else "",
    )
