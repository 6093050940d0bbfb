"""Compiled things on disk, named by what they were made from, so that a name is never out of date."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from ...config import cache_dir
from ...errors import KernelError
from .seal import is_whole, seal

NATIVE = Path(__file__).with_name("native")


def digest(*parts: str | bytes) -> str:
    """A short name for the parts' content."""
    content = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        content.update(len(data).to_bytes(8, "little") + data)
    return content.hexdigest()[:24]


@lru_cache
def native_digest() -> str:
    """A name for the native sources as they are, and for what rewrites kernels into them."""
    files = sorted(path for path in NATIVE.parent.rglob("*") if path.suffix in (".h", ".cpp", ".py"))
    return digest(*(part for path in files for part in (path.name, path.read_bytes())))


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The file or folder of that name in the cache; `make` writes it to the path it is given if there is none.

    It appears under its name only when it is whole, whoever else makes the same thing at the same time; one that was
    damaged since is made again.

    Raises:
        KernelError: the cache folder cannot be read or written.
    """
    folder = cache_dir() / "emulator"
    final = folder / name
    try:
        if final.exists():
            if is_whole(final):
                return final
            drop(final)
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".making-", dir=folder))
    except OSError as error:
        raise _unwritable(folder, error) from None
    try:
        make(work / name)
        seal(work / name)
        try:
            os.replace(work / name, final)
        except OSError:
            if not final.exists():  # another process was quicker with a folder of that name
                raise
    except OSError as error:
        raise _unwritable(folder, error) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return final


def drop(path: Path) -> None:
    """Take a file or folder out of the cache; it is made again when it is wanted next.

    Raises:
        OSError: it cannot be removed.
    """
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _unwritable(folder: Path, error: OSError) -> KernelError:
    return KernelError(
        f"Compiled kernels cannot be kept in {folder}: {error.strerror or error}.",
        "Free some space there, or set MLXNB_CACHE_DIR to a folder that can be written.",
    )
