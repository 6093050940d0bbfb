"""Prompt caches in a file, in mlx-lm's own format, so that what MLX saved is read here and the reverse.

A safetensors file: layer i's keys are "i.0", its values "i.1" [B, heads, rows, head_dim] and its token count "i.2".
The metadata is flattened as "0.KEY" (the caller's own), "1.i" (the layer's class) and "2.j.0", "2.j.1" (which tensors
stand for a number or for nothing).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from ...backends.torch_layers import kind
from ...errors import DamagedModelError, OptionError
from .prompt_cache import LayerCache

MLX_CLASS = "KVCache"
SUFFIX = ".safetensors"


def save_prompt_cache(file_name: str, cache: list[LayerCache], metadata: dict[str, str] | None = None) -> None:
    """Write a cache, with `metadata` of strings, to a safetensors file; the name gets its suffix where it lacks it.

    Raises:
        ValueError: a layer has a sliding window or a recurrent state, which the format has no place for.
    """
    import torch
    from safetensors.torch import save

    arrays: dict[str, Any] = {}
    notes = {f"0.{name}": value for name, value in (metadata or {}).items()} | {"2.0": ""}
    marks: list[tuple[str, str]] = []
    for i, layer in enumerate(cache):
        _check_plain(layer)
        notes[f"1.{i}"] = MLX_CLASS
        for j, tensor in enumerate((None, None) if layer.empty() else (layer.layer.keys, layer.layer.values)):
            arrays[f"{i}.{j}"] = torch.zeros(0) if tensor is None else tensor.detach().cpu().contiguous().clone()
            marks += [(f"{i}.{j}", "none")] if tensor is None else []
        arrays[f"{i}.2"] = torch.tensor(layer.offset, dtype=torch.int32)
        marks.append((f"{i}.2", "scalar"))
    for number, (place, word) in enumerate(marks, 1):
        notes |= {f"2.{number}.0": place, f"2.{number}.1": word}
    _write(Path(file_name if str(file_name).endswith(SUFFIX) else f"{file_name}{SUFFIX}"), save(arrays, notes))


def load_prompt_cache(file_name: str, return_metadata: bool = False) -> Any:
    """The cache in a file that this or mlx-lm's function wrote; with `return_metadata` what was saved along too.

    It lies in the computer's memory until it is used. Nothing is unpickled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its layers are of a class that only MLX has.
        DamagedModelError: it is no prompt cache.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file_name, framework="pt") as file, torch.inference_mode():
            notes = file.metadata() or {}
            classes = [notes[f"1.{i}"] for i in range(sum(name.startswith("1.") for name in notes))]
            cache = [_layer(file, i, name) for i, name in enumerate(classes)]
    except (SafetensorError, KeyError) as err:
        raise DamagedModelError(f"{file_name} holds no prompt cache: {err}.", "Save it again.") from err
    if not cache:
        raise DamagedModelError(f"{file_name} holds no prompt cache: it names no layer.", "Save it again.")
    own = {name.removeprefix("0."): value for name, value in notes.items() if name.startswith("0.")}
    return (cache, own) if return_metadata else cache


def _layer(file: Any, number: int, name: str) -> LayerCache:
    from transformers.cache_utils import DynamicLayer

    if name != MLX_CLASS:
        raise OptionError(f"Its layer {number} is a {name}, which only MLX reads.", "Set MLXNB_LM=mlx.")
    keys, values, count = (file.get_tensor(f"{number}.{part}") for part in range(3))
    layer, held = DynamicLayer(), int(count)
    if held:
        if keys.ndim != 4 or keys.shape[:3] != values.shape[:3] or not 0 < held <= keys.shape[2]:
            problem = f"keys {list(keys.shape)} and values {list(values.shape)} for {held} tokens"
            raise DamagedModelError(f"Layer {number} of the prompt cache has {problem}.", "Save it again.")
        layer.update(keys[..., :held, :], values[..., :held, :])
    return LayerCache(layer)


def _check_plain(layer: Any) -> None:
    held = getattr(layer, "layer", layer)
    if kind(held) != "DynamicLayer":
        raise OptionError(
            f"A prompt cache with a {type(held).__name__} cannot be saved: mlx-lm's format has no place for it.",
            "The engine's own caches keep such states on disk (`%mlxnb pin`).",
        )


def _write(path: Path, content: bytes) -> None:
    """Written aside and renamed, so that a crash leaves the old file or the new one."""
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise
