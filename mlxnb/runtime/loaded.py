"""The models in memory: found again by name, backend and dtype, loaded along a backend chain, given back on unload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..backends.base import Backend, LoadedModel, ModelInfo
from ..backends.select import candidates
from ..decision import Rejected
from ..errors import ModelNotFoundError, UnsupportedModelError
from ..models import ModelSource, check_fits, inspect, resolve

# A model is taken to fit when it has room for a KV cache of this many tokens beside its weights.
KV_ALLOWANCE = 4096

# Per weight, in a dtype that was asked for; without one, and when quantised, the weights stay as they are stored.
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory with what it took to get there."""

    model: LoadedModel
    source: ModelSource
    dtype: str | None
    passed_over: tuple[Rejected, ...]

    @property
    def info(self) -> ModelInfo:
        """See ModelInfo."""
        return self.model.info


class LoadedModels:
    """Every method but `infos` belongs to the engine's thread."""

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        self._backends = backends
        self._loaded: tuple[Loaded, ...] = ()

    def infos(self) -> list[ModelInfo]:
        """What is loaded now; safe on any thread, since the tuple is only ever replaced."""
        return [loaded.info for loaded in self._loaded]

    def get(
        self,
        name: str,
        backend: str = "auto",
        dtype: str | None = None,
        strict: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Loaded:
        """The loaded model, loading it first if need be.

        Raises:
            ModelError: it cannot be found, read, or does not fit.
            BackendError: no backend takes it.
        """
        chain = candidates(backend, self._backends, strict)
        source = resolve(name, progress=progress)
        for candidate in chain.backends:
            for loaded in self._loaded:
                if (loaded.source.path, loaded.dtype, loaded.info.backend) == (source.path, dtype, candidate.name):
                    return loaded
        return self._load(source, chain.backends, dtype, chain.passed_over)

    def _load(
        self, source: ModelSource, chain: tuple[Backend, ...], dtype: str | None, passed_over: tuple[Rejected, ...]
    ) -> Loaded:
        checkpoint = inspect(source.path)
        tokens = min(checkpoint.context_length or KV_ALLOWANCE, KV_ALLOWANCE)
        check_fits(
            checkpoint, tokens=tokens, bytes_per_weight=None if checkpoint.quantization else BYTES.get(dtype or "")
        )
        for i, backend in enumerate(chain):
            try:
                model = backend.load(source, dtype)
            except UnsupportedModelError as err:
                if i == len(chain) - 1:
                    raise
                passed_over = (*passed_over, Rejected(backend.name, err.message, err.remedy))
                continue
            loaded = Loaded(model, source, dtype, passed_over)
            self._loaded = (*self._loaded, loaded)
            return loaded
        raise AssertionError("a chain has at least one backend")

    def unload(self, name: str) -> list[ModelInfo]:
        """Give back every copy of a model; what was unloaded.

        Raises:
            ModelNotFoundError: nothing of that name is loaded.
        """
        going = [loaded for loaded in self._loaded if name in (loaded.source.name, str(loaded.source.path))]
        if not going:
            here = ", ".join(sorted({info.name for info in self.infos()})) or "nothing"
            raise ModelNotFoundError(f"{name} is not loaded.", f"Loaded now: {here}.")
        self._loaded = tuple(loaded for loaded in self._loaded if loaded not in going)
        return [_close(loaded) for loaded in going]

    def close(self) -> None:
        """Give everything back."""
        going, self._loaded = self._loaded, ()
        for loaded in going:
            _close(loaded)


def _close(loaded: Loaded) -> ModelInfo:
    loaded.model.close()
    return loaded.info
