"""Options of mlx-lm that the torch engine does not have: refused by name, never ignored."""

from __future__ import annotations

from typing import Any

from ...errors import OptionError

WHY = {
    "adapter_path": "LoRA adapters are not read on torch. Fuse the adapter into the model first",
    "model_config": "A model is loaded as its config.json says. Change that file in a copy of the folder",
    "max_kv_size": "A rotating KV cache of a chosen size is mlx-lm's own. Leave it out",
    "kv_bits": "The KV cache is kept in the model's dtype on torch. Leave it out",
    "input_embeddings": "A prompt is text or tokens on torch. Leave it out",
    "draft_model": "Speculative decoding is not among these calls on torch. Leave it out",
    "upload_repo": "Nothing is uploaded from here. Upload the folder with huggingface_hub",
    "quant_predicate": "Layers are quantised alike on torch, without recipes or predicates. Leave it out",
    "q_mode": "Only affine quantisation is written on torch. Leave it out",
    "dequantize": "Loading dequantises; writing a dequantised copy is mlx-lm's own. Leave it out",
}


def refuse(**given: Any) -> None:
    """Raise an OptionError (a ValueError) for the first option that is set."""
    for name, value in given.items():
        if value is not None and value is not False:
            shown = f" is {value!r}" if isinstance(value, str | int | float | dict) else " is set"
            raise OptionError(f"{name}{shown}: {WHY[name][0].lower()}{WHY[name][1:]}, or set MLXNB_LM=mlx.")
