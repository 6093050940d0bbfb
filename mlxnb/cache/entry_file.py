"""One entry of the prefix cache as a safetensors file: written aside and renamed, checked by checksums when read.

The format is safetensors' own: 8 bytes with the header's length, a JSON header, the tensors. It is written and read
here, since a state of hundreds of megabytes would be copied whole by the library's `serialize`. CRC-32 tells accidents
from data, each tensor's apart so that several threads can check; against malice a cache in a person's own folder
needs nothing stronger, for nothing that is read is ever run.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .states import WIDTHS, HostArray, key_of, length_of

VERSION = "1"
SUFFIX = ".safetensors"
ASIDE = ".part"
TOKENS = "tokens"
STATE = "state."
MAX_HEADER = 100_000_000
STRETCH = 1 << 20  # read and checked in pieces that stay in the processor's cache
ALONE = 16_000_000  # bytes from which several threads pay
NO_CHECKSUM = "00000000"


class DamagedEntryError(ValueError):
    """A file is cut, altered, or none of this cache's; the message says which."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a file's header says, once its checksum was found right. `whole_only`: the state cannot be cut."""

    namespace: str
    key: bytes
    whole_only: bool
    meta: dict[str, str]
    tensors: dict[str, tuple[str, tuple[int, ...], int]]  # dtype, shape, and where it begins in the file
    checksums: dict[str, int]

    @property
    def length(self) -> int:
        """How many tokens the state is of."""
        return length_of(self.key)

    @property
    def nbytes(self) -> int:
        """Bytes of all its arrays."""
        return sum(WIDTHS[dtype] * math.prod(shape) for dtype, shape, _ in self.tensors.values())


@dataclass(frozen=True, slots=True)
class Entry:
    """What goes into a file: the state of `tokens`, as KVStates.arrays gave it."""

    namespace: str
    tokens: Sequence[int]
    whole_only: bool
    arrays: Mapping[str, HostArray]
    meta: Mapping[str, str]

    @property
    def nbytes(self) -> int:
        """About what the file will take."""
        return sum(array.nbytes for array in self.arrays.values()) + 4 * len(self.tokens) + 1024


def write(entry: Entry, path: Path) -> int:
    """Write an entry to `path` so that at any instant the file there is whole, the old one or the new; its bytes.

    Raises:
        OSError: no room, no permission; nothing is left behind.
    """
    parts = _parts(entry)
    header = _header(entry, parts)
    aside = path.with_name(f"{path.stem}.{os.getpid()}-{os.urandom(4).hex()}{ASIDE}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            write_all(file, memoryview(header))
            for array in parts.values():
                write_all(file, array.view)
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    sync_folder(path.parent)
    return len(header) + sum(array.nbytes for array in parts.values())


def write_all(file: BinaryIO, data: memoryview) -> None:
    """An unbuffered write may take less than it was given."""
    while data:
        data = data[file.write(data) :]


def read_head(path: Path) -> Head:
    """A file's header and token ids; no state is read.

    Raises:
        OSError: it cannot be read, or is gone.
        DamagedEntryError: it is damaged or foreign.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise DamagedEntryError("it does not begin like a safetensors file, or is cut")
        raw = file.read(length)
        head = _head(raw, size)
        dtype, shape, begin = head.tensors.pop(TOKENS)
        file.seek(begin)
        ids = file.read(WIDTHS[dtype] * math.prod(shape))
    if zlib.crc32(ids) != head.checksums[TOKENS]:
        raise DamagedEntryError("its token ids are altered")
    key = key_of(np.frombuffer(ids, "<u4").tolist())
    return Head(head.namespace, key, head.whole_only, head.meta, head.tensors, head.checksums)


def read_arrays(path: Path, head: Head) -> dict[str, HostArray]:
    """The state's arrays, every byte of them checked.

    Raises:
        OSError: the file cannot be read, or is gone.
        DamagedEntryError: it is damaged.
    """

    def read(name: str) -> HostArray:
        return _read_array(path, name, head)

    if head.nbytes < ALONE:
        arrays = [read(name) for name in head.tensors]
    else:
        # crc32 and readinto both let other threads run.
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
            arrays = list(threads.map(read, head.tensors))
    return {name.removeprefix(STATE): array for name, array in zip(head.tensors, arrays, strict=True)}


def _read_array(path: Path, name: str, head: Head) -> HostArray:
    dtype, shape, begin = head.tensors[name]
    data = np.empty(WIDTHS[dtype] * math.prod(shape), np.uint8)
    rest, checksum = data.data, 0
    with path.open("rb", buffering=0) as file:
        file.seek(begin)
        while rest:
            read = file.readinto(rest[:STRETCH])
            if not read:
                raise DamagedEntryError("it is cut")
            checksum = zlib.crc32(rest[:read], checksum)
            rest = rest[read:]
    if checksum != head.checksums[name]:
        raise DamagedEntryError(f"its tensor {name} is altered")
    return HostArray(dtype, shape, data)


def _parts(entry: Entry) -> dict[str, HostArray]:
    """The tensors in the order of the file: wide elements first, so that each lies at a multiple of its width."""
    tokens = HostArray.of(np.asarray(entry.tokens, "<u4"))
    named = {TOKENS: tokens, **{STATE + name: array for name, array in entry.arrays.items()}}
    return dict(sorted(named.items(), key=lambda item: (-WIDTHS[item[1].dtype], item[0])))


def _header(entry: Entry, parts: Mapping[str, HostArray]) -> bytes:
    metadata = {
        "format": "mlxnb prefix",
        "version": VERSION,
        "namespace": entry.namespace,
        "length": str(len(entry.tokens)),
        "whole_only": str(int(entry.whole_only)),
        "meta": json.dumps(dict(entry.meta)),
        "checksums": json.dumps({name: zlib.crc32(array.view) for name, array in parts.items()}),
        "header_checksum": NO_CHECKSUM,
    }
    described: dict[str, Any] = {"__metadata__": metadata}
    begin = 0
    for name, array in parts.items():
        end = begin + array.nbytes
        described[name] = {"dtype": array.dtype, "shape": list(array.shape), "data_offsets": [begin, end]}
        begin = end
    metadata["header_checksum"] = f"{zlib.crc32(_framed(described)):08x}"
    return _framed(described)


def _framed(described: Mapping[str, Any]) -> bytes:
    text = json.dumps(described, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _head(raw: bytes, size: int) -> Head:
    """The header, without its key. Once its checksum is right everything in it is what was written."""
    try:
        described = json.loads(raw)
        metadata = described["__metadata__"]
        said = metadata["header_checksum"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DamagedEntryError("its header is not this cache's") from None
    unsigned = raw.replace(f'"header_checksum":"{said}"'.encode(), f'"header_checksum":"{NO_CHECKSUM}"'.encode(), 1)
    if said != f"{zlib.crc32(len(raw).to_bytes(8, 'little') + unsigned):08x}":
        raise DamagedEntryError("its header is altered")
    if metadata.get("version") != VERSION:
        raise DamagedEntryError(f"it has the format {metadata.get('version')!r}, and this mlxnb reads {VERSION!r}")
    start = 8 + len(raw)
    places = {name: value for name, value in described.items() if name != "__metadata__"}
    if start + max(value["data_offsets"][1] for value in places.values()) != size:
        raise DamagedEntryError("it is cut")
    return Head(
        namespace=metadata["namespace"],
        key=b"",
        whole_only=metadata["whole_only"] == "1",
        meta=json.loads(metadata["meta"]),
        tensors={n: (v["dtype"], tuple(v["shape"]), start + v["data_offsets"][0]) for n, v in places.items()},
        checksums=json.loads(metadata["checksums"]),
    )


def sync_folder(folder: Path) -> None:
    """Make the rename itself last; Windows has no such call and needs none."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
