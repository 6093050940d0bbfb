"""Reads which weights an ONNX file has and where they lie, without reading one, and holds that against the files.

An ONNX file is one protocol buffer: fields of a number and a wire type, nested by length. Of all its fields these are
followed: graph (7) of the model; node (1) and initializer (5) of a graph; input (1), op_type (4) and attribute (5) of a
node; dims (1), data_type (2), name (8), raw_data (9) and external_data (13) of a tensor.
Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from ..hardware import human_bytes
from .headers import LFS_POINTER, check_regular, refuse, short
from .protobuf import Field, Message

# ONNX's numbers for the float types that weights are computed in.
FLOATS = {1: "float32", 10: "float16", 16: "bfloat16", 11: "float64"}

# What the builder calls tables of rotary angles, which are no parameters.
TABLES = ("cos_cache", "sin_cache")

# Operators with a packed weight, which of their inputs it is, and the bits of one where no attribute says.
PACKED = {"MatMulNBits": (1, 4), "GatherBlockQuantized": (0, 4)}


@dataclass(frozen=True, slots=True)
class Weight:
    """One weight: `dtype` by ONNX's number, and where it lies in bytes, in `file` or, where that is "", in the ONNX
    file itself. `end` is None for all that is left of the file.
    """

    dtype: int
    shape: tuple[int, ...]
    file: str
    begin: int
    end: int | None

    @property
    def elements(self) -> int:
        """How many numbers it holds as stored, a packed byte being one."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Graph:
    """The weights of a graph by name, and the bits of those that are packed; scales and zero points are `companions`.

    `nbytes` is the size of all of them, as stored.
    """

    weights: dict[str, Weight]
    packed: dict[str, int]
    companions: frozenset[str]
    nbytes: int

    @property
    def parameters(self) -> int:
        """How many numbers the model has, packed ones counted unpacked."""
        own = (
            (name, weight.elements)
            for name, weight in self.weights.items()
            if name not in self.companions and not name.startswith(TABLES)
        )
        return sum(elements * 8 // self.packed[name] if name in self.packed else elements for name, elements in own)

    @property
    def dtype(self) -> str:
        """The float type of most of its numbers, "unknown" where it has none."""
        sizes = dict.fromkeys(FLOATS, 0)
        for weight in self.weights.values():
            if weight.dtype in FLOATS:
                sizes[weight.dtype] += weight.elements
        most = max(sizes, key=lambda dtype: sizes[dtype])
        return FLOATS[most] if sizes[most] else "unknown"


def read_graph(path: Path) -> Graph:
    """The weights that an ONNX file names.

    Raises:
        DamagedModelError: the file, or one that its weights lie in, is missing, cut, or no such file.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            _check_begin(path.name, file.read(len(LFS_POINTER)))
            weights, packed, companions = _read(Message(file, path.name, 0, size))
    except OSError as error:
        refuse(path.name, f"cannot be read ({error.strerror})", "Check the disk and the file's permissions.")
    if not weights:
        refuse(path.name, "holds no weights")
    sizes = {"": size, **{name: _size(path, name) for name in {weight.file for weight in weights.values()} - {""}}}
    nbytes = sum(_place(path, name, weight, sizes[weight.file]) for name, weight in weights.items())
    return Graph(weights, packed, frozenset(companions), nbytes)


def _check_begin(name: str, start: bytes) -> None:
    if not start:
        refuse(name, "is empty")
    if start.startswith(LFS_POINTER):
        refuse(name, "is a Git LFS pointer, not the model", "Run `git lfs pull` in its folder.")


def _read(model: Message) -> tuple[dict[str, Weight], dict[str, int], set[str]]:
    weights: dict[str, Weight] = {}
    packed: dict[str, int] = {}
    companions: set[str] = set()
    for graph in model.fields():
        for field in graph.message().fields() if graph.number == 7 else ():
            if field.number == 5:
                name, weight = _weight(field.message())
                weights[name] = weight
            elif field.number == 1:
                inputs, place, bits = _packing(field.message())
                if len(inputs) > place >= 0:
                    packed[inputs[place]] = bits
                    companions |= set(inputs[2:])
    return weights, packed, companions


def _weight(tensor: Message) -> tuple[str, Weight]:
    """Its name, and where it is."""
    name, dtype, shape, place = "", 0, list[int](), dict[str, str]()
    begin = end = tensor.begin
    for field in tensor.fields():
        if field.number == 1:
            shape += field.numbers()
        elif field.number == 2:
            dtype = field.value
        elif field.number == 8:
            name = field.text()
        elif field.number == 9:
            begin, end = field.begin, field.end
        elif field.number == 13:
            entry = {part.number: part.text() for part in field.message().fields()}
            place[entry.get(1, "")] = entry.get(2, "")
    if "location" not in place:
        return name, Weight(dtype, tuple(shape), "", begin, end)
    offset, length = (_number(tensor, place.get(key)) for key in ("offset", "length"))
    return name, Weight(dtype, tuple(shape), place["location"] or ".", offset or 0, length and (offset or 0) + length)


def _number(tensor: Message, text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        refuse(tensor.file_name, f"places a weight at {short(text)}")
    return int(text)


def _packing(node: Message) -> tuple[list[str], int, int]:
    """The inputs of a node, which of them is packed (-1 for none), and the bits of a weight in it."""
    inputs: list[str] = []
    kind, bits = "", None
    attributes: list[Field] = []
    for field in node.fields():
        if field.number == 1:
            inputs.append(field.text())
        elif field.number == 4:
            kind = field.text()
        elif field.number == 5:
            attributes.append(field)
    if kind not in PACKED:
        return inputs, -1, 0
    place, bits = PACKED[kind]
    for attribute in attributes:
        parts = {part.number: part for part in attribute.message().fields()}
        if 1 in parts and 3 in parts and parts[1].text() == "bits":
            bits = parts[3].value
    return inputs, place, bits if bits in (1, 2, 4, 8) else 8


def _size(path: Path, name: str) -> int:
    """Bytes of a file that weights lie in."""
    if name != os.path.basename(name) or name in (".", "..") or "\\" in name or "\0" in name:
        refuse(path.name, f"has weights in {short(name)}, which is no file of its own folder")
    check_regular(path.parent / name)
    try:
        return os.stat(path.parent / name).st_size
    except OSError:
        refuse(name, f"is missing: {path.name} has its weights there")


def _place(path: Path, name: str, weight: Weight, size: int) -> int:
    """Bytes of a weight, all of which are in its file."""
    end = size if weight.end is None else weight.end
    if weight.begin > end or end > size:
        missing = human_bytes(max(end, weight.begin) - size)
        refuse(weight.file or path.name, f"is cut off: {missing} are missing after {short(name)}")
    return end - weight.begin
