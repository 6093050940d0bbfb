"""What would make models run faster, or run at all, on this machine: remedies in the order of what they gain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from ..backends.rates import TIE
from ..backends.select import SERVER
from ..hardware import Accelerator
from .standing import Standing

Basis = Literal["measured", "hardware", "not measured"]

# The GPUs that a backend computes on beside the processor; llama.cpp's and ONNX Runtime's builds differ, and tell it
# only once they are installed.
COMPUTES_ON = {"mlx": ("metal",), "torch": ("cuda", "rocm", "metal")}
TORCH_BUILDS = "https://pytorch.org/get-started/locally"


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do, and why. `gain` is how many times as fast a typical request was measured to be with it, None where
    nothing was measured: then `basis` tells whether a fact of the hardware speaks for it.
    """

    remedy: str
    backend: str
    reason: str
    basis: Basis
    gain: float | None = None


def recommendations(
    table: Sequence[Standing], gpus: Sequence[Accelerator], pinned: str = "auto", pinned_by: str = ""
) -> list[Recommendation]:
    """Remedies, the largest measured gain first, then what the hardware speaks for, then what nobody measured.

    `pinned` is the backend that a person's settings name, and `pinned_by` where they do.
    """
    found = [*_from_pinned(table, pinned, pinned_by), *_for_gpus(table, gpus), *_to_measure(table)]
    said = {each.backend for each in found}
    found += _to_make_ready(table, [each for each in table if each.backend not in said])
    places = {"measured": 0, "hardware": 1, "not measured": 2}
    return sorted(found, key=lambda each: (places[each.basis], -(each.gain or 0.0)))


def _ready(table: Sequence[Standing]) -> list[Standing]:
    return [each for each in table if each.status == "ready"]


def _from_pinned(table: Sequence[Standing], pinned: str, pinned_by: str) -> Iterator[Recommendation]:
    """The settings name a backend that was measured slower than another that is ready."""
    rates = {each.backend: each.rates for each in _ready(table) if each.rates is not None}
    own = rates.get(pinned)
    fastest = min(rates, key=lambda name: rates[name].typical, default=pinned)
    if own is None or own.typical <= rates[fastest].typical * (1 + TIE):
        return
    reason = f"{pinned_by or 'a setting'} names {pinned}, and {fastest} is faster here"
    gain = own.typical / rates[fastest].typical
    yield Recommendation("%config MLXNB.backend = 'auto'", fastest, reason, "measured", gain)


def _for_gpus(table: Sequence[Standing], gpus: Sequence[Accelerator]) -> Iterator[Recommendation]:
    """A GPU that a backend would compute on, were it installed or built for it."""
    states = {each.backend: each for each in table}
    for gpu in gpus:
        could = [states[name] for name, kinds in COMPUTES_ON.items() if gpu.kind in kinds and name in states]
        if any(each.status == "ready" and not _built_without(each.backend, gpu) for each in could):
            continue
        for each in could[:1]:
            yield _for_gpu(each, gpu)


def _for_gpu(standing: Standing, gpu: Accelerator) -> Recommendation:
    if standing.status != "ready":
        return Recommendation(standing.remedy, standing.backend, f"it computes on the {gpu.name}", "hardware")
    remedy = f"install torch's {'ROCm' if gpu.kind == 'rocm' else 'CUDA'} build: {TORCH_BUILDS}"
    reason = f"the installed torch is built for processors only, and there is a {gpu.name}"
    return Recommendation(remedy, standing.backend, reason, "hardware")


def _to_measure(table: Sequence[Standing]) -> Iterator[Recommendation]:
    unknown = [each.backend for each in _ready(table) if each.rates is None and not each.rates_reason]
    if unknown and len(_ready(table)) > 1:
        reason = f"not measured yet: {', '.join(unknown)}"
        yield Recommendation("%mlxnb backends --measure", unknown[0], reason, "not measured")


def _to_make_ready(table: Sequence[Standing], others: Sequence[Standing]) -> Iterator[Recommendation]:
    """What the others need; what several of them need alike is said once. One that was measured is worth its while
    only where it was faster.
    """
    fastest = min((each.rates.typical for each in _ready(table) if each.rates is not None), default=None)
    needs: dict[tuple[str, str], list[str]] = {}
    for each in others:
        if each.status == "ready" or not each.remedy:
            continue
        if each.backend == SERVER and each.status == "possible":
            continue  # it is installed, and what a server has is for its own person to say
        if each.rates is None or fastest is None:
            needs.setdefault((each.remedy, each.reason), []).append(each.backend)
        elif (gain := fastest / each.rates.typical) > 1 + TIE:
            yield Recommendation(each.remedy, each.backend, each.reason, "measured", gain)
    for (remedy, reason), backends in needs.items():
        yield Recommendation(remedy, ", ".join(backends), reason, "not measured")


def _built_without(backend: str, gpu: Accelerator) -> bool:
    """Whether the library of a backend is built for processors only."""
    try:
        return backend == "torch" and gpu.kind != "metal" and version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False
