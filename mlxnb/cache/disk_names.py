"""Whose KV states a folder on disk holds, by the name that a person knows the model by."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from threading import Lock

from .entry_file import ASIDE
from .private import make_folder

FILE = "model"


class DiskNames:
    """Each folder has its model's name in a small file. It is only there to be shown, so what is wrong with it costs
    the name and nothing else. For every thread.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: dict[Path, str] = {}

    def add(self, place: Path, model: str) -> None:
        """Write a folder's name, once a process."""
        with self._lock:
            if self._known.get(place) == model and (place / FILE).exists():
                return
            self._known[place] = model
        aside = place / f"{FILE}.{os.getpid()}-{os.urandom(4).hex()}{ASIDE}"
        with contextlib.suppress(OSError):  # a read-only folder or a full disk is told of where a state is written
            make_folder(place)
            aside.write_text(model, encoding="utf-8", errors="backslashreplace")
            os.replace(aside, place / FILE)

    def of(self, place: Path) -> str:
        """A folder's name; the empty string where it has none."""
        with self._lock:
            if place not in self._known:
                with contextlib.suppress(OSError, ValueError):
                    self._known[place] = (place / FILE).read_text(encoding="utf-8")
            return self._known.get(place, "")
