"""Options of mlx-lm that the torch engine does not have: refused by name, never ignored."""

from __future__ import annotations

from typing import Any

from ...errors import OptionError

# Why torch does not take an option, and what to do.
WHY = {
    "model_config": ("a model is loaded as its config.json says", "Change that file in a copy of the folder"),
    "max_kv_size": ("a rotating KV cache of a chosen size is mlx-lm's own", "Leave it out"),
    "kv_bits": ("the KV cache is kept in the model's dtype on torch", "Leave it out"),
    "input_embeddings": ("a prompt is text or tokens on torch", "Leave it out"),
    "upload_repo": ("nothing is uploaded from here", "Upload the folder with huggingface_hub"),
    "quant_predicate": ("a function would be asked about MLX's layers, which torch has not", "Name a mixed recipe"),
    "q_mode": ("only affine quantisation is written on torch", "Leave it out"),
    "dequantize": ("writing an unpacked copy is mlx-lm's own; loading unpacks in any case", "Leave it out"),
}


def refuse(**given: Any) -> None:
    """Raise an OptionError (a ValueError) for the first option that is set."""
    for name, value in given.items():
        if value is not None and value is not False:
            shown = f" is {value!r}" if isinstance(value, str | int | float | dict) else " is set"
            why, remedy = WHY[name]
            raise OptionError(f"{name}{shown}: {why}.", f"{remedy}, or set MLXNB_LM=mlx where MLX runs.")
