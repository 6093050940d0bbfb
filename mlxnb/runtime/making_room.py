"""Unloads models that are idle where another one finds no room beside them, the one not used for longest first."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from .. import hardware
from ..backends.base import AS_ASKED, Backend, LoadedModel
from ..config import settings
from ..errors import ModelTooLargeError
from ..hardware import human_bytes
from ..models import Checkpoint, ModelSource, check_fits, fits, inspect
from ..models.fit import KV_ALLOWANCE, MARGIN_BYTES, MARGIN_SHARE
from ..request import DTYPES, Precision
from .residency import Copy, Residency, taken_by

# About what is left of a model in 16 bits that is quantised while it is loaded.
LEFT = {"int8": 0.5, "int4": 0.28}


class MakingRoom:
    """Makes room among the models that `loaded` gives, by `unload`. On the engine's thread."""

    def __init__(
        self, residency: Residency, loaded: Callable[[], Collection[Copy]], unload: Callable[[Any], object]
    ) -> None:
        self._residency, self._loaded, self._unload = residency, loaded, unload

    def for_model(
        self, backend: Backend, source: ModelSource, size: int, precision: Precision, load: Callable[[], LoadedModel]
    ) -> tuple[LoadedModel, tuple[str, ...]]:
        """What `load` gives, for which idle models go where there is no memory for it or no budget; and what to say of
        them. `size`: bytes of its files, 0 where a server has it.

        Raises:
            ModelTooLargeError: there is no room for it with all of them gone.
        """
        went: list[str] = []
        about = size * LEFT.get(precision.quantize or "", 1.0)
        self._check_budget(source.name, about)
        while True:
            try:
                self._within_budget(about, went)
                model = load()
                self._within_budget(model.info.memory, went)  # what it came to
                return model, tuple(went)
            except ModelTooLargeError:
                idle = self._worth_unloading(backend)
                if not idle or not _would_fit(source, size, precision, _free(backend, idle)):
                    raise
                self._go(idle[0], went)

    def check_fits(self, checkpoint: Checkpoint, backend: Backend, precision: Precision, strict: bool) -> None:
        """Refuse what the backend has no way to load; with `strict`, what does not fit as it is asked for.

        Raises:
            ModelTooLargeError: also where it would fit with idle models gone, so that they go first.
        """
        free = _free(backend)
        try:
            check_fits(checkpoint, free=free, **_asked(checkpoint, precision))
        except ModelTooLargeError as err:
            without = _free(backend, self._worth_unloading(backend))
            if without > free and fits(checkpoint, free=without, **_asked(checkpoint, precision)):
                raise
            way = backend.smaller_way(checkpoint, precision)
            if way and (not strict or way.subject == AS_ASKED):
                return
            here = sorted({copy.info.name for copy in self._loaded()})
            if not here:
                raise
            remedy = f"{err.remedy} In memory now, to unload: {', '.join(here)}."
            raise ModelTooLargeError(err.message, remedy) from None

    def _go(self, copy: Copy, went: list[str]) -> None:
        [resident] = self._residency.residents([copy])
        went.append(f"{copy.info.name} ({copy.info.backend}) was unloaded to make room: idle for {resident.idle:.0f} s")
        self._unload(copy)

    def _worth_unloading(self, backend: Backend) -> list[Copy]:
        """The idle models whose memory would help a backend, oldest first: a card's own memory is no one else's."""
        idle = self._idle()
        on_device = backend.memory_free()
        if on_device is None or on_device >= hardware.memory_free():
            return [copy for copy in idle if not _on_card(copy)]
        return [copy for copy in idle if copy.info.backend == backend.name]

    def _idle(self) -> list[Copy]:
        """Those that may go and have memory to give: what a server runs has none here."""
        return [copy for copy in self._residency.oldest_first(self._loaded()) if copy.info.memory]

    def _check_budget(self, name: str, size: float) -> None:
        """Refuse what the budget could not hold with every idle model unloaded."""
        budget = _budget()
        staying = [copy for copy in self._loaded() if not copy.stay.idle]
        if budget is None or not size or size + taken_by(staying) <= budget:
            return
        beside = f" beside {', '.join(sorted({copy.info.name for copy in staying}))}" if staying else ""
        message = f"{name} takes about {human_bytes(size)}, and the models in memory may take {human_bytes(budget)}"
        raise ModelTooLargeError(f"{message}{beside}.", "Raise MLXNB_MEMORY_MB, or take a smaller model.")

    def _within_budget(self, size: float, went: list[str]) -> None:
        """Unload what is idle until a model of `size` bytes is within the budget."""
        budget, idle = _budget(), self._idle()
        while budget is not None and size and idle and size + taken_by(self._loaded()) > budget:
            self._go(idle.pop(0), went)


def _asked(checkpoint: Checkpoint, precision: Precision) -> dict[str, Any]:
    """What `fits` is asked of a model: without a dtype, and when quantised, the weights stay as they are stored."""
    dtype = precision.dtype
    per_weight = None if dtype is None or checkpoint.quantization else DTYPES[dtype]
    return {"tokens": min(checkpoint.context_length or KV_ALLOWANCE, KV_ALLOWANCE), "bytes_per_weight": per_weight}


def _would_fit(source: ModelSource, size: int, precision: Precision, free: int) -> bool:
    """Whether a model whose files have `size` bytes fits into `free` bytes, as far as can be told beforehand."""
    if source.format != "safetensors":
        return size * (1 + MARGIN_SHARE) + MARGIN_BYTES <= free
    checkpoint = inspect(source.path)
    return bool(fits(checkpoint, free=free, **_asked(checkpoint, precision)))


def _free(backend: Backend, without: Collection[Copy] = ()) -> int:
    """Bytes that a backend could take for a model now, or if these models were gone."""
    free = hardware.memory_free() + taken_by([copy for copy in without if not _on_card(copy) and not _mapped(copy)])
    on_device = backend.memory_free()
    if on_device is None:
        return free
    return min(free, on_device + taken_by([copy for copy in without if copy.info.backend == backend.name]))


def _on_card(copy: Copy) -> bool:
    return copy.info.device.startswith("cuda")


def _mapped(copy: Copy) -> bool:
    """Whether a model's weights lie in the pages of its file, which count as free already."""
    return copy.info.backend == "llamacpp" and copy.info.device == "cpu"


def _budget() -> float | None:
    """Bytes that the models may take together, where a person has said so."""
    megabytes = settings().memory_mb
    return None if megabytes is None else megabytes * 1e6
