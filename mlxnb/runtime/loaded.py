"""The models in memory: found again by name, backend and precision, loaded along a chain, given back on unload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from threading import Lock

from .. import hardware
from ..backends.base import Backend, LoadedModel, ModelInfo
from ..backends.select import Candidates, candidates
from ..decision import Rejected
from ..errors import MlxnbError, ModelNotFoundError, ModelTooLargeError, OptionError, UnsupportedModelError
from ..models import Checkpoint, ModelSource, check_fits, inspect, resolve
from ..models.fit import KV_ALLOWANCE
from ..request import AS_STORED, DTYPES, Precision
from .caches import Caches

# One load at a time in the process, whichever engine asks: a thread that imports transformers beside another may get
# half of it, and two loads at once would each count on the same free memory.
_loading = Lock()

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory, with the backends that come before its own and why they do not run it."""

    model: LoadedModel
    source: ModelSource
    precision: Precision
    passed_over: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def info(self) -> ModelInfo:
        """See ModelInfo."""
        return self.model.info

    def goes_by(self, name: str) -> bool:
        """Whether it is meant by a name, or by the path of its folder."""
        return name in (self.source.name, str(self.source.path))


class LoadedModels:
    """Every method but `infos` belongs to the engine's thread."""

    def __init__(self, backends: Mapping[str, Backend], caches: Caches | None = None) -> None:
        self._backends = backends
        self._caches = caches
        self._loaded: tuple[Loaded, ...] = ()

    def infos(self) -> list[ModelInfo]:
        """What is loaded now; safe on any thread, since the tuple is only ever replaced."""
        return [loaded.info for loaded in self._loaded]

    def get(
        self,
        name: str,
        backend: str = "auto",
        precision: Precision = AS_STORED,
        strict: bool = False,
        progress: Progress | None = None,
    ) -> Loaded:
        """The loaded model, loading it first if need be. With `auto` a model in memory is taken where it is.

        Raises:
            ModelError: it cannot be found, read, or does not fit.
            BackendError: no backend takes it.
            OptionError: with `strict`, it could not be quantised as asked.
        """
        chain = candidates(backend, self._backends, strict)
        found = self._in_memory(name, chain, precision)
        loaded = found or self._load(resolve(name, progress=progress), chain, precision, strict)
        if strict:
            _check_as_asked(loaded)
        return loaded

    def _in_memory(self, name: str, chain: Candidates, precision: Precision) -> Loaded | None:
        for place, candidate in enumerate(chain.backends):
            for loaded in self._loaded:
                if (loaded.source.name, loaded.precision, loaded.info.backend) == (name, precision, candidate.name):
                    return _found(loaded, chain, place)
        return None

    def _load(self, source: ModelSource, chain: Candidates, precision: Precision, strict: bool) -> Loaded:
        refused: list[Rejected] = []
        checkpoint = inspect(source.path)
        for backend in chain.backends:
            try:
                model = self._load_on(backend, source, checkpoint, precision, strict)
            except UnsupportedModelError as err:
                if len(chain.backends) == 1:
                    raise
                refused.append(Rejected(backend.name, err.message, err.remedy))
                continue
            loaded = Loaded(model, source, precision, (*chain.passed_over, *refused))
            if self._caches is not None:
                self._caches.join(model, source, precision)
            self._loaded = (*self._loaded, loaded)
            return loaded
        reasons = "; ".join(f"{r.subject}: {r.reason.rstrip('.')}" for r in refused)
        raise UnsupportedModelError(f"No backend here can run {source.name}. {reasons}.")

    def _load_on(
        self, backend: Backend, source: ModelSource, checkpoint: Checkpoint, precision: Precision, strict: bool
    ) -> LoadedModel:
        try:
            with _loading:
                self._check_fits(checkpoint, backend, precision, strict)
                return backend.load(source, precision)
        except MlxnbError:
            raise
        except Exception as err:  # a library fails in its own ways: on import, or on files it does not understand
            reason = " ".join(f"{type(err).__name__}: {err}".split())
            message = f"{backend.name} could not load {source.name}: {reason}."
            raise UnsupportedModelError(message, "Fetch the model again if its files may be damaged.") from err

    def _check_fits(self, checkpoint: Checkpoint, backend: Backend, precision: Precision, strict: bool) -> None:
        """Refuse what the backend has no way to load; with `strict`, what does not fit as it is asked for."""
        dtype = precision.dtype
        tokens = min(checkpoint.context_length or KV_ALLOWANCE, KV_ALLOWANCE)
        on_device = backend.memory_free()
        free = hardware.memory_free() if on_device is None else min(on_device, hardware.memory_free())
        # Without a dtype, and when quantised, the weights stay as they are stored.
        per_weight = None if dtype is None or checkpoint.quantization else DTYPES[dtype]
        try:
            check_fits(checkpoint, tokens=tokens, bytes_per_weight=per_weight, free=free)
        except ModelTooLargeError as err:
            if not strict and backend.smaller_way(checkpoint, precision):
                return
            here = sorted({info.name for info in self.infos()})
            if not here:
                raise
            remedy = f"{err.remedy} In memory now, to unload: {', '.join(here)}."
            raise ModelTooLargeError(err.message, remedy) from None

    def unload(self, name: str) -> list[ModelInfo]:
        """Give back every copy of a model; what was unloaded.

        Raises:
            ModelNotFoundError: nothing of that name is loaded.
        """
        going = [loaded for loaded in self._loaded if loaded.goes_by(name)]
        if not going:
            here = ", ".join(sorted({info.name for info in self.infos()})) or "nothing"
            raise ModelNotFoundError(f"{name} is not loaded.", f"Loaded now: {here}.")
        self._loaded = tuple(loaded for loaded in self._loaded if loaded not in going)
        return [self._close(loaded) for loaded in going]

    def close(self) -> None:
        """Give everything back."""
        going, self._loaded = self._loaded, ()
        for loaded in going:
            self._close(loaded)

    def _close(self, loaded: Loaded) -> ModelInfo:
        if self._caches is not None:
            self._caches.leave(loaded.model)
        loaded.model.close()
        return loaded.info


def _check_as_asked(loaded: Loaded) -> None:
    """A strict request takes no model that came in another precision than it asked for."""
    for refused in loaded.info.refused:
        remedy = f"{refused.remedy[:1].upper()}{refused.remedy[1:]}" if refused.remedy else "Leave it out, or strict."
        raise OptionError(f"{refused.subject} of {loaded.info.name} was refused: {refused.reason}.", remedy)


def _found(loaded: Loaded, chain: Candidates, place: int) -> Loaded:
    """A model in memory as this request sees it: only backends that come before its own in this chain count."""
    before = {backend.name for backend in chain.backends[:place]}
    refused = tuple(r for r in loaded.passed_over if r.subject in before)
    merely_elsewhere = before - {r.subject for r in refused}
    note = (f"taken where it is in memory, before {', '.join(sorted(merely_elsewhere))}",) if merely_elsewhere else ()
    return replace(loaded, passed_over=(*chain.passed_over, *refused), notes=note)
