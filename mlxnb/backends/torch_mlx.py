"""A folder that mlx-lm wrote, for the torch backend: whether it can be read, and what transformers is given of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ModelTooLargeError, UnsupportedModelError
from ..hardware import memory_free
from ..quiet import import_transformers
from ..request import DTYPES

if TYPE_CHECKING:
    from ..models import Checkpoint, ModelSource

# Weights that were packed take this many bytes each where neither the request nor the file names a dtype.
USUAL = "bfloat16"


@dataclass(frozen=True, slots=True)
class StoredByMlx:
    """Weights by transformers' name, each read when it is asked for, and the dtype they are loaded in."""

    checkpoint: Checkpoint
    tensors: dict[str, Any]
    dtype: Any

    def model_class(self) -> Any:
        """transformers' class of the model; its Auto class wants a folder of its own kind.

        Raises:
            ValueError: transformers has none.
        """
        kinds = import_transformers().MODEL_FOR_CAUSAL_LM_MAPPING
        if type(self._config()) not in kinds:
            raise ValueError(f"it has no causal language model {self.checkpoint.model_type}.")
        return kinds[type(self._config())]

    def arguments(self) -> dict[str, Any]:
        """What `from_pretrained` takes in place of a folder."""
        return {"config": self._config(), "state_dict": self.tensors}

    def notes(self, again: bool = False) -> tuple[str, ...]:
        """What a person should know: that what is in memory is larger than what was stored, or rounded `again`."""
        stored = self.checkpoint.quantization
        unpacked = f"stored by MLX in {stored}, unpacked to {str(self.dtype).removeprefix('torch.')}"
        return (f"{unpacked} and quantised again: rounded twice" if again else unpacked,) if stored else ()

    def _config(self) -> Any:
        """transformers' configuration of the model, without MLX's quantisation, which it would take for its own."""
        config = import_transformers().AutoConfig.from_pretrained(
            self.checkpoint.path, local_files_only=True, trust_remote_code=False
        )
        for name in ("quantization", "quantization_config"):
            if hasattr(config, name):
                delattr(config, name)
        return config


def stored_by_mlx(
    source: ModelSource, checkpoint: Checkpoint, dtype: str | None, on_device: int | None
) -> StoredByMlx | None:
    """What `source` holds where mlx-lm wrote it; None where anything else did. `on_device`: bytes free there, if told.

    Raises:
        UnsupportedModelError: its names or its quantisation are not known here; says which, and what to take instead.
        ModelTooLargeError: dequantised it would not fit.
    """
    import torch

    from ..models import check_fits, mlx_format
    from ..models.catalogue import original

    if not mlx_format.is_mlx(checkpoint):
        return None
    decision = mlx_format.readable(checkpoint)
    if not decision:
        first = original(source.name, source.path)
        instead = f" It was converted from {first.subject}, which torch may run." if first else ""
        raise UnsupportedModelError(
            f"{source.name} is stored in MLX's format, and {decision.reason}.{instead}",
            getattr(decision, "remedy", ""),
        )
    name = dtype or (checkpoint.dtype if checkpoint.dtype in DTYPES else USUAL)
    if checkpoint.quantization:
        free = memory_free() if on_device is None else min(on_device, memory_free())
        try:
            check_fits(checkpoint, tokens=0, bytes_per_weight=DTYPES[name], free=free)
        except ModelTooLargeError as err:
            reason = err.message.replace("does not fit", f"does not fit once dequantised to {name}")
            raise ModelTooLargeError(reason, err.remedy) from None
    kind = getattr(torch, name)
    return StoredByMlx(checkpoint, mlx_format.tensors(checkpoint, kind), kind)
