"""Reads what a GGUF file says it holds, without reading a single weight, and holds it against the file's size.

The format: "GGUF", a version, the numbers of tensors and of metadata entries; the entries, each a key, a type and a
value; for each tensor its name, dimensions (the fastest first), type and offset; padding; the weights. Whole numbers
are little-endian, strings and arrays have their length before them. Source: ggml's docs/gguf.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..hardware import human_bytes
from .gguf_types import TYPES, Type
from .headers import LFS_POINTER, check_regular, refuse, short

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_HEADER = 200_000_000  # vocabularies of 260,000 tokens with their merges take some 10 MB
MAX_ENTRIES = 100_000
MAX_DIMENSIONS = 4
MAX_KEY = 65_535
KEPT = 1024  # elements of an array up to which it is kept; of a longer one only the length is
ALIGNMENT = 32
SCALARS: Mapping[int, str] = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
STRING, ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class Long:
    """An array that was passed over, by how many elements it has."""

    length: int


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor as a header describes it. `shape` as numpy has it, the fastest dimension last; `kind` is None for a
    type that is not known here; `begin` in bytes from the start of the file.
    """

    shape: tuple[int, ...]
    number: int
    kind: Type | None
    begin: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes; 0 where the type is not known."""
        return 0 if self.kind is None else self.elements // self.kind.block * self.kind.size


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Metadata by key, long arrays as a Long, and tensors by name."""

    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]
    file_size: int


def read_gguf(path: Path) -> GgufHeader:
    """The header of a GGUF file.

    Raises:
        DamagedModelError: the file is empty, cut, or no GGUF file; its header is garbage or contradicts its size.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            return _Reader(file, path.name).header()
    except OSError as error:
        refuse(path.name, f"cannot be read ({error.strerror})", "Check the disk and the file's permissions.")


class _Reader:
    """Takes values from the front of a file, never past its end and never more than MAX_HEADER bytes."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name, self._at = file, name, 0
        self._size = file.seek(0, 2)
        file.seek(0)

    def header(self) -> GgufHeader:
        self._check_start()
        tensors, entries = self._scalar("<Q"), self._scalar("<Q")
        if max(tensors, entries) > MAX_ENTRIES:
            refuse(self._name, f"claims to have {max(tensors, entries):,} entries")
        metadata: dict[str, Any] = {}
        for _ in range(entries):
            key = self._text(MAX_KEY)
            if not key:
                refuse(self._name, "has an entry without a name")
            if key in metadata:
                refuse(self._name, f"has the entry {short(key)} twice")
            metadata[key] = self._value(key, self._scalar("<I"))
        described = [self._tensor() for _ in range(tensors)]
        return GgufHeader(metadata, self._placed(described, self._alignment(metadata)), self._size)

    def _check_start(self) -> None:
        if self._size == 0:
            refuse(self._name, "is empty")
        start = self._file.read(8)
        self._at = 8
        if start == LFS_POINTER:
            refuse(self._name, "is a Git LFS pointer, not the weights", "Run `git lfs pull` in its folder.")
        if start[:4] != MAGIC or len(start) < 8:
            refuse(self._name, "does not begin like a GGUF file")
        version = int.from_bytes(start[4:], "little")
        if version not in VERSIONS:
            odd = "big-endian" if version and version % 65536 == 0 else f"of version {version}"
            refuse(self._name, f"is {odd}; versions 2 and 3, little-endian, are read here", "Convert the model again.")

    def _take(self, count: int) -> bytes:
        if count > self._size - self._at:
            refuse(self._name, f"is cut off after {human_bytes(self._size)}, inside its header")
        self._at += count
        if self._at > MAX_HEADER:
            refuse(self._name, f"has a header of more than {human_bytes(MAX_HEADER)}")
        return self._file.read(count)

    def _scalar(self, code: str) -> Any:
        return struct.unpack(code, self._take(struct.calcsize(code)))[0]

    def _text(self, limit: int = MAX_HEADER) -> str:
        length = self._scalar("<Q")
        if length > limit:
            refuse(self._name, f"has a text of {length:,} bytes in its header")
        # Some files hold names that are not quite UTF-8; what they are only shown for must not keep the model out.
        return self._take(length).decode("utf-8", "replace")

    def _value(self, key: str, kind: int) -> Any:
        if kind in SCALARS:
            return self._scalar(SCALARS[kind])
        if kind == STRING:
            return self._text()
        if kind == ARRAY:
            return self._array(key, self._scalar("<I"), self._scalar("<Q"))
        refuse(self._name, f"gives {short(key)} a value of the unknown type {kind}")

    def _array(self, key: str, kind: int, length: int) -> Any:
        if kind not in SCALARS and kind != STRING:
            refuse(self._name, f"gives {short(key)} a list of the unknown type {kind}")
        least = 8 if kind == STRING else struct.calcsize(SCALARS[kind])
        if length * least > self._size - self._at:
            refuse(self._name, f"is cut off inside the list {short(key)}")
        if kind != STRING:
            data = self._take(length * least)
            return struct.unpack(f"<{length}{SCALARS[kind][1]}", data) if length <= KEPT else Long(length)
        if length <= KEPT:
            return tuple(self._text() for _ in range(length))
        for _ in range(length):
            self._take(self._scalar("<Q"))
        return Long(length)

    def _tensor(self) -> tuple[str, GgufTensor]:
        name, dimensions = self._text(MAX_KEY), self._scalar("<I")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            refuse(self._name, f"gives the tensor {short(name)} {dimensions} dimensions")
        shape = struct.unpack(f"<{dimensions}Q", self._take(8 * dimensions))[::-1]
        number, begin = self._scalar("<I"), self._scalar("<Q")
        kind = TYPES.get(number)
        if math.prod(shape) >= 2**63 or (kind is not None and shape[-1] % kind.block):
            refuse(self._name, f"gives the tensor {short(name)} the shape {short(list(shape))}")
        return name, GgufTensor(shape, number, kind, begin)

    def _alignment(self, metadata: Mapping[str, Any]) -> int:
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or not 1 <= alignment <= 2**20 or alignment & (alignment - 1):
            refuse(self._name, f"gives its alignment as {short(alignment)}")
        return alignment

    def _placed(self, described: list[tuple[str, GgufTensor]], alignment: int) -> dict[str, GgufTensor]:
        """The tensors with their place in the file, each held against the file's end."""
        start = -(-self._at // alignment) * alignment
        placed: dict[str, GgufTensor] = {}
        for name, tensor in described:
            if name in placed:
                refuse(self._name, f"has the tensor {short(name)} twice")
            if tensor.begin % alignment:
                refuse(self._name, f"gives the tensor {short(name)} a place that is not aligned")
            made = GgufTensor(tensor.shape, tensor.number, tensor.kind, start + tensor.begin)
            missing = made.begin + made.nbytes - self._size
            if missing > 0:
                refuse(self._name, f"is cut off: {human_bytes(missing)} of its weights are missing")
            placed[name] = made
        return placed
