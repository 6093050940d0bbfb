"""One model on this machine as a list shows it, read from headers only; what is wrong with it is told, not raised."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import MlxnbError
from .attention import attention_pattern
from .checkpoint import Checkpoint, inspect
from .gguf_info import GgufInfo, gguf_info
from .onnx_folder import inspect_onnx
from .room import Room, room
from .shape import Shape
from .source import ModelSource

LATENT_IN_GGUF = ("deepseek2", "minicpm3")


@dataclass(frozen=True, slots=True)
class Entry:
    """A model that is here. `name` is what `resolve` or a server takes, `where` the place in words.

    Sizes in bytes: `size` that of its files, `weights` that of its tensors. `precision` is what it is stored in, such
    as "bfloat16" or "4-bit, group 64"; `context` in tokens, None where nothing says. `room` tells whether it fits, None
    where that cannot be told. One that cannot be used has a `problem` and a `remedy`, and of the rest what is known.
    """

    name: str
    where: str
    format: str
    path: Path = Path()
    size: int | None = None
    weights: int | None = None
    parameters: int | None = None
    precision: str = ""
    context: int | None = None
    architecture: str = ""
    attention: str = ""
    shape: Shape = field(default_factory=Shape)
    room: Room | None = None
    note: str = ""
    problem: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a list of models is made for: a context in tokens, None for 4,096, and how many bytes of memory are free."""

    tokens: int | None
    free: int

    def room(self, weights: float, shape: Shape, context: int | None) -> Room:
        """Whether such a model fits."""
        return room(weights, shape, self.free, tokens=self.tokens, context=context)


def entry_of(source: ModelSource, where: str, ask: Ask) -> Entry:
    """What is told of a model; a damaged one, too."""
    told: dict[str, Any] = {"path": source.path, "note": source.note}
    try:
        told |= _READERS[source.format](source.path, ask)
    except (MlxnbError, OSError) as err:
        words = (err.message, err.remedy) if isinstance(err, MlxnbError) else (f"It cannot be read: {err}.", "")
        told |= {"problem": words[0], "remedy": words[1], "size": _size(source.path)}
    return Entry(source.name, where, source.format, **told)


def _safetensors(path: Path, ask: Ask) -> dict[str, Any]:
    return _of_checkpoint(inspect(path), ask)


def _onnx(path: Path, ask: Ask) -> dict[str, Any]:
    return _of_checkpoint(inspect_onnx(path), ask)


def _of_checkpoint(checkpoint: Checkpoint, ask: Ask) -> dict[str, Any]:
    return {
        "size": _size(checkpoint.path),
        "weights": checkpoint.weight_bytes,
        "parameters": checkpoint.parameters,
        "precision": checkpoint.quantization or checkpoint.dtype,
        "context": checkpoint.context_length,
        "architecture": checkpoint.model_type,
        "attention": attention_pattern(checkpoint.shape, checkpoint.config),
        "shape": checkpoint.shape,
        "room": ask.room(checkpoint.weight_bytes, checkpoint.shape, checkpoint.context_length),
    }


def _gguf(path: Path, ask: Ask) -> dict[str, Any]:
    info = gguf_info(path)
    shape = _shape_of(info)
    words = "MLA" if info.architecture in LATENT_IN_GGUF else attention_pattern(shape)
    return {
        "size": sum(file.stat().st_size for file in info.files),
        "weights": info.weight_bytes,
        "parameters": info.parameters,
        "precision": info.quantization or info.dtype,
        "context": info.context_length,
        "architecture": info.architecture,
        "attention": f"{words}, sliding {info.window}" if info.window else words,
        "shape": shape,
        "room": ask.room(info.weight_bytes, shape, info.context_length),
    }


def _shape_of(info: GgufInfo) -> Shape:
    # Which layers have the window is not in every header, so that all count as plain attention: the larger case.
    return Shape(info.layers, info.heads, info.kv_heads, info.head_dim, info.kv_width, info.layers, 0, 0, 0)


def _size(path: Path) -> int:
    """Bytes of a file, or of the files in a folder; links count as what they lead to."""
    if path.is_file():
        return path.stat().st_size
    total = 0
    try:
        for name in os.listdir(path):
            if (path / name).is_file():
                total += (path / name).stat().st_size
    except OSError:
        pass  # what is gone or may not be read takes no place that could be told
    return total


_READERS = {"safetensors": _safetensors, "gguf": _gguf, "onnx": _onnx}
