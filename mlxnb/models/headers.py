"""Reads what a safetensors file says it holds, without reading a single weight, and holds it against the file's size.

The format: 8 bytes with the header's length N (unsigned, little-endian), N bytes of JSON that map each tensor's name to
its dtype, shape and [begin, end) offsets into the rest, then the rest, which the tensors fill without gap or overlap.
Source: the format section of safetensors' README, and its reference reader for the limits.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from ..errors import DamagedModelError
from ..hardware import human_bytes

MAX_HEADER = 100_000_000  # The reference reader's own limit.
MAX_DIMENSIONS = 32
BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
LFS_POINTER = b"version "
AGAIN = "Download or copy the model again."


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as a header describes it: `dtype` by the format's own name ("BF16"), `begin` and `end` in bytes."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, by name.

    Raises:
        DamagedModelError: the file is empty, cut or a Git LFS pointer; its header is garbage or contradicts its size.
    """
    header, size = _header(path)
    tensors = parse_header(path.name, header)
    _check_layout(path.name, tensors, size - 8 - len(header))
    return tensors


def read_format(path: Path) -> str:
    """What a safetensors file says of who wrote it, such as "pt" or "mlx"; "" where it says nothing.

    Raises:
        DamagedModelError: it has no header that can be read.
    """
    header = _header(path)[0]
    parse_header(path.name, header)
    metadata = json.loads(header).get("__metadata__")
    return str(metadata.get("format", "")) if isinstance(metadata, dict) else ""


def _header(path: Path) -> tuple[bytes, int]:
    """The JSON of a file's header, and the size of the whole file."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            start = file.read(8)
            return file.read(_header_length(path.name, start, size)), size
    except OSError as error:
        refuse(path.name, f"cannot be read ({error.strerror})", "Check the disk and the file's permissions.")


def parse_header(file: str, header: bytes) -> dict[str, Tensor]:
    """The tensors that a header's JSON describes. `file` is its name, for the messages."""
    try:
        entries = json.loads(header)
    except (ValueError, RecursionError):
        refuse(file, "has a header that is not JSON")
    if not isinstance(entries, dict):
        refuse(file, "has a header that is not a JSON object")
    return {name: _tensor(file, name, entry) for name, entry in entries.items() if name != "__metadata__"}


def check_regular(path: Path) -> None:
    """Refuse a folder, a pipe or a device in a file's place: reading one might never end."""
    if os.path.exists(path) and not os.path.isfile(path):
        refuse(path.name, "is no regular file")


def refuse(file: str, problem: str, remedy: str = AGAIN) -> NoReturn:
    """Raise a DamagedModelError that names the file, what is wrong with it, and the remedy."""
    raise DamagedModelError(f"{file} {problem}.", remedy)


def _header_length(file: str, start: bytes, size: int) -> int:
    if size == 0:
        refuse(file, "is empty")
    if start.startswith(LFS_POINTER):
        refuse(file, "is a Git LFS pointer, not the weights", "Run `git lfs pull` in its folder.")
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= MAX_HEADER:
        refuse(file, "does not begin like a safetensors file")
    if 8 + length > size:
        refuse(file, f"is cut off after {human_bytes(size)}, inside its header of {human_bytes(length)}")
    return length


def _tensor(file: str, name: str, entry: Any) -> Tensor:
    if not isinstance(entry, dict):
        refuse(file, f"describes the tensor {short(name)} by something that is not a JSON object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BITS:
        refuse(file, f"has the unknown dtype {short(dtype)} for the tensor {short(name)}")
    if not _counts(shape) or len(shape) > MAX_DIMENSIONS:
        refuse(file, f"gives the tensor {short(name)} the shape {short(shape)}")
    if not _counts(offsets) or len(offsets) != 2 or math.prod(shape) * BITS[dtype] != (offsets[1] - offsets[0]) * 8:
        refuse(file, f"gives the tensor {short(name)} a place that does not match its shape")
    return Tensor(dtype, tuple(shape), offsets[0], offsets[1])


def _counts(value: Any) -> TypeGuard[list[int]]:
    # A bool is an int to Python; sizes past 2**63 are no place in any file.
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _check_layout(file: str, tensors: dict[str, Tensor], room: int) -> None:
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != position:
            gap = "overlap" if tensor.begin < position else "leave a gap"
            refuse(file, f"has tensors that {gap} before {short(name)}")
        position = tensor.end
    if position > room:
        refuse(file, f"is cut off: {human_bytes(position - room)} of {human_bytes(position)} of weights are missing")
    if position < room:
        refuse(file, f"has {human_bytes(room - position)} after its last tensor that nothing accounts for")


def short(value: Any) -> str:
    """`value` for a message: its repr, cut in length and depth, since a damaged file may hold anything."""
    text = reprlib.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
