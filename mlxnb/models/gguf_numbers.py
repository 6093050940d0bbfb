"""The numbers of a safetensors tensor, read from its file one at a time and turned into those of a GGUF tensor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DamagedModelError, UnsupportedModelError
from .gguf_types import NUMBERS, TYPES
from .headers import Tensor, read_header

STORED = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}
FLOAT_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
LARGEST_F16 = 65504.0
ROUTER = "mlp.gate.weight"  # what chooses among experts, kept as exact as vectors
ROWS = 1 << 25  # numbers that are quantised at a time: 128 MB in float32


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor's bytes are."""

    file: Path
    tensor: Tensor
    begin: int

    def read(self) -> np.ndarray:
        """The numbers as they are stored, bfloat16 as the whole numbers of its bits."""
        tensor = self.tensor
        found = np.fromfile(self.file, STORED[tensor.dtype], tensor.elements, offset=self.begin)
        if found.size != tensor.elements:
            raise DamagedModelError(f"{self.file.name} ended while it was read.", "Fetch the model again.")
        return found.reshape(tensor.shape)


def places(files: Iterable[Path], name: str) -> dict[str, Place]:
    """Where each tensor of a model is, by its name.

    Raises:
        DamagedModelError: a file is cut or broken.
        UnsupportedModelError: a tensor is of another type than floats.
    """
    found: dict[str, Place] = {}
    for file in files:
        with file.open("rb") as opened:
            start = 8 + int.from_bytes(opened.read(8), "little")
        for key, tensor in read_header(file).items():
            if tensor.dtype not in STORED:
                raise UnsupportedModelError(
                    f"{name} has {key} in {tensor.dtype}; GGUF is written from floats.", "Take its original."
                )
            found[key] = Place(file, tensor, start + tensor.begin)
    return found


def type_of(place: Place, key: str, floats: str | None, kind: str | None) -> str:
    """ggml's type that a weight is written in: vectors in float32, matrices in `kind` where it goes into their rows, in
    8 bits for embedding and head where it is coarser; else in `floats`, None for as they are stored.
    """
    tensor = place.tensor
    stored = tensor.dtype if tensor.dtype != "F64" else "F32"
    if len(tensor.shape) < 2 or key.endswith(ROUTER):
        return "F32"
    if kind is not None and key.endswith(("embed_tokens.weight", "lm_head.weight")):
        kind = "Q8_0"
    if kind is not None and tensor.shape[-1] % TYPES[NUMBERS[kind]].block == 0:
        return kind
    return floats or stored


def size_of(shape: tuple[int, ...], kind: str) -> int:
    """Bytes of a tensor in a type of ggml's."""
    blocks = int(np.prod(shape, dtype=np.int64)) // TYPES[NUMBERS[kind]].block
    return blocks * TYPES[NUMBERS[kind]].size


def in_type(numbers: np.ndarray, stored: str, kind: str, key: str) -> np.ndarray:
    """Numbers stored as one of STORED's types in ggml's type `kind`, quantised ones as bytes.

    Raises:
        UnsupportedModelError: one is too large for float16.
    """
    if kind == stored:
        return numbers
    full = _float32(numbers, stored)
    if kind == "F32":
        return full
    if kind == "F16":
        if np.abs(full).max(initial=0.0) > LARGEST_F16:
            raise UnsupportedModelError(f"{key} has numbers that float16 cannot hold.", "Take bfloat16 or float32.")
        return full.astype(np.float16)
    return _quantised(full, kind)


def _float32(numbers: np.ndarray, stored: str) -> np.ndarray:
    if stored == "BF16":
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(np.float32, copy=False)


def _quantised(full: np.ndarray, kind: str) -> np.ndarray:
    """By gguf's own reference code, some rows at a time, since it takes several times their memory."""
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    rows = full.reshape(-1, full.shape[-1])
    step = max(1, ROWS // rows.shape[1])
    made = [quantize(rows[i : i + step], GGMLQuantizationType[kind]) for i in range(0, len(rows), step)]
    together = np.concatenate(made)
    return together.reshape(*full.shape[:-1], together.shape[-1])
