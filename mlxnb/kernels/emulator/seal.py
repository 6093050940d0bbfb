"""Whether a compiled thing on disk is as it was written: each ends in, or has beside it, a digest of its content."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

_MARK = b"mlxnb-sealed"
_SEAL = ".sealed"  # in a folder


def seal(path: Path) -> None:
    """Seal a file (behind its last byte, where a loader does not look) or a folder, and bring it to the disk."""
    if path.is_dir():
        (path / _SEAL).write_bytes(_of_folder(path))
        for part in _files(path):
            _to_disk(part)
    else:
        content = path.read_bytes()
        with path.open("ab") as file:
            file.write(_MARK + hashlib.sha256(content).digest())
    _to_disk(path)


def is_whole(path: Path) -> bool:
    """Whether a file or folder is there and its seal fits; a file is read once a process unless it changes.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_dir():
        return (path / _SEAL).is_file() and (path / _SEAL).read_bytes() == _of_folder(path)
    status = path.stat()
    return _fits(path, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=4096)
def _fits(path: Path, size: int, changed: int, number: int) -> bool:
    content = path.read_bytes()
    body, end = content[:-44], content[-44:]
    return end == _MARK + hashlib.sha256(body).digest()


def _of_folder(path: Path) -> bytes:
    """Names and sizes: the precompiled header is too large to be read each time, and the compiler checks it itself."""
    return "\n".join(f"{file.name} {file.stat().st_size}" for file in _files(path)).encode()


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name != _SEAL)


def _to_disk(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
