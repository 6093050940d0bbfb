"""Pins that outlive the process: one small file each, so that two processes never rewrite each other's."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .private import make_folder


@dataclass(frozen=True, slots=True)
class DiskPin:
    """A pin as it was asked for, and the name of the file that it keeps."""

    name: str
    namespace: str
    tokens: tuple[int, ...]
    file: str


class DiskPins:
    """The pins in a folder. A damaged pin file is no pin."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, namespace: str, tokens: Sequence[int], file: str) -> None:
        """Write a pin, in place of one of the same name.

        Raises:
            OSError: the folder cannot be written.
        """
        make_folder(self.folder)
        body = {"name": name, "namespace": namespace, "tokens": list(tokens), "file": file}
        path = self._path(name)
        aside = path.with_name(f"{path.stem}.{os.getpid()}.part")
        aside.write_text(json.dumps(body), encoding="ascii")
        os.replace(aside, path)

    def remove(self, name: str) -> bool:
        """Delete a pin; whether there was one."""
        try:
            self._path(name).unlink()
        except OSError:
            return False
        return True

    def all(self) -> list[DiskPin]:
        """Every pin, by name."""
        pins = []
        with contextlib.suppress(OSError):
            for path in self.folder.glob("*.json"):
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    body = json.loads(path.read_bytes())
                    pins.append(DiskPin(body["name"], body["namespace"], tuple(body["tokens"]), body["file"]))
        return sorted(pins, key=lambda pin: pin.name)

    def files(self) -> set[str]:
        """The names of the files that are kept."""
        return {pin.file for pin in self.all()}

    def _path(self, name: str) -> Path:
        return self.folder / (
            hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() + ".json"
        )
