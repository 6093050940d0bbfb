"""What is on this machine for a set of backends: the list of models, held against the memory that they may use."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, version

from .. import hardware
from ..backends.base import Backend
from ..backends.select import SERVER
from ..backends.server_entries import served_entries
from ..config import cache_dir
from ..models import ModelSource
from ..models.entry import Ask, Entry, entry_of
from ..models.inventory import inventory
from ..models.recommended import BITS, Recommended, recommend
from ..models.room import Room
from ..records import Records


def models_here(backends: Mapping[str, Backend], context: int | None = None) -> list[Entry]:
    """`inventory` against what a model could have of this machine's memory now; then what servers list."""
    served = served_entries() if "server" in backends else []
    return [*inventory(context, memory_for_models(backends)), *served]


def recommended_here(backends: Mapping[str, Backend], use: str, context: int | None = None) -> list[Recommended]:
    """`recommend` for this machine's memory, and its bandwidth where `mlxnb doctor` has measured it."""
    speeds = hardware.remembered(Records(cache_dir() / "hardware", "Speeds"))
    copies = [speed.copy for speed in speeds.measured] if speeds is not None else []
    mlx, on_card = hardware.is_apple_silicon(), bool(_cards())
    return recommend(
        use,
        memory_for_models(backends),
        tokens=context,
        bandwidth=max(copies, default=None),
        mlx=mlx,
        precisions=("8-bit",) if on_card and not mlx else tuple(BITS),  # torch's int4 is for CPUs
    )


def described(source: ModelSource) -> Entry:
    """What is told of one model, held against the memory that is free now; a served one by its server."""
    if source.format == "served":
        found = [entry for entry in served_entries() if entry.name.removesuffix(":latest") == source.name]
        return found[0] if found else Entry(source.name, "server", "served")
    return entry_of(source, "", Ask(None, hardware.memory_free()))


def memory_for_models(backends: Mapping[str, Backend]) -> int:
    """Bytes that a model could have now: what is free, on Apple silicon at most what is left of the GPU's recommended
    working set, and on a machine with an NVIDIA card that torch uses at most what that has free.
    """
    free = hardware.memory_free()
    mlx = backends.get("mlx")
    if hardware.is_apple_silicon() and mlx is not None and mlx.available():
        on_device = mlx.memory_free()
        return free if on_device is None else min(free, on_device)
    on_card = [gpu.memory_free for gpu in _cards() if gpu.memory_free is not None]
    return min(free, on_card[0]) if on_card else free


def rooms_on(backends: Mapping[str, Backend], entry: Entry, names: Collection[str]) -> dict[str, Room]:
    """Whether a model fits on each of the backends in `names`, where that can be told, as it is stored and held against
    what each could have now. On the engine's thread: a backend may ask its device.
    """
    weights = entry.weights
    if weights is None:
        return {}
    free = hardware.memory_free()
    limits = {name: backends[name].memory_free() for name in names if name != SERVER}
    asks = {name: Ask(None, free if limit is None else min(free, limit)) for name, limit in limits.items()}
    return {name: ask.room(weights, entry.shape, entry.context) for name, ask in asks.items()}


def card_memory() -> int | None:
    """Bytes of the first NVIDIA card that torch computes on; None where there is none."""
    cards = _cards()
    return cards[0].memory_total if cards else None


def _cards() -> list[hardware.Accelerator]:
    """The NVIDIA cards that torch computes on, of which it is known what is free. Told without importing it, which
    takes seconds: the builds for the CPU say so in their version.
    """
    try:
        if "+cpu" in version("torch"):
            return []
    except PackageNotFoundError:
        return []
    return [gpu for gpu in hardware.accelerators() if gpu.kind == "cuda" and gpu.memory_free is not None]
