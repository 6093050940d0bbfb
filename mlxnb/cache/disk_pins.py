"""Pins that outlive the process: one small file each, so that two processes never rewrite each other's."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from .entry_file import ASIDE
from .private import make_folder

SUFFIX = ".json"
TOKENS = range(2**32)


@dataclass(frozen=True, slots=True)
class DiskPin:
    """A pin as it was asked for, and the name of the file that it keeps."""

    name: str
    namespace: str
    tokens: tuple[int, ...]
    file: str


class DiskPins:
    """The pins in a folder, for every thread. What is no pin that `add` could have written is none.

    file_of: the name of the file that holds the state of a namespace and tokens.
    """

    def __init__(self, folder: Path, file_of: Callable[[str, Sequence[int]], str]) -> None:
        self.folder, self._file_of = folder, file_of
        self._lock = Lock()
        # A pin may be of a hundred thousand tokens: what was read stays known as long as its file is the same.
        self._read: dict[str, tuple[tuple[int, int, int], DiskPin | None]] = {}

    def add(self, name: str, namespace: str, tokens: Sequence[int]) -> None:
        """Write a pin, in place of one of the same name.

        Raises:
            OSError: the folder cannot be written.
        """
        make_folder(self.folder)
        file = self._file_of(namespace, tokens)
        body = {"name": name, "namespace": namespace, "tokens": list(tokens), "file": file}
        path = self.folder / _file_name(name)
        aside = path.with_name(f"{path.stem}.{os.getpid()}{ASIDE}")
        aside.write_text(json.dumps(body), encoding="ascii")
        os.replace(aside, path)

    def remove(self, name: str) -> bool:
        """Delete a pin; whether there was one."""
        try:
            (self.folder / _file_name(name)).unlink()
        except OSError:
            return False
        return True

    def drop_unfinished(self, age: float) -> None:
        """Delete what was begun and left alone for `age` seconds: a process that ended while it wrote."""
        with contextlib.suppress(OSError):
            for file in list(os.scandir(self.folder)):
                with contextlib.suppress(OSError):
                    if file.name.endswith(ASIDE) and time.time() - file.stat().st_mtime > age:
                        os.unlink(file.path)

    def all(self) -> list[DiskPin]:
        """Every pin, by name."""
        with self._lock:
            before, self._read = self._read, {}
            with contextlib.suppress(OSError):
                for file in list(os.scandir(self.folder)):
                    with contextlib.suppress(OSError):
                        said = file.stat()
                        if not file.name.endswith(SUFFIX) or not stat.S_ISREG(said.st_mode):
                            continue
                        now = said.st_ino, said.st_size, said.st_mtime_ns
                        known = before.get(file.name)
                        if known is None or known[0] != now:
                            known = now, self._pin(Path(file.path))
                        self._read[file.name] = known
            pins = [pin for _, pin in self._read.values() if pin is not None]
        return sorted(pins, key=lambda pin: pin.name)

    def files(self) -> set[str]:
        """The names of the files that are kept."""
        return {pin.file for pin in self.all()}

    def _pin(self, path: Path) -> DiskPin | None:
        """What a file says, if `add` can have written it.

        Raises:
            OSError: it cannot be read.
        """
        try:
            body = json.loads(path.read_bytes())
            name, namespace, tokens, file = (body[part] for part in ("name", "namespace", "tokens", "file"))
            if not (isinstance(name, str) and isinstance(namespace, str) and isinstance(tokens, list)):
                return None
            # Not isinstance: true and false are no tokens.
            if not all(type(token) is int and token in TOKENS for token in tokens):
                return None
            own = path.name == _file_name(name) and file == self._file_of(namespace, tokens)
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return DiskPin(name, namespace, tuple(tokens), file) if own else None


def _file_name(name: str) -> str:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() + SUFFIX
