"""Whose KV states a folder on disk holds, and how fast that model prefills, for processes that never loaded it."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from .entry_file import ASIDE
from .private import make_folder

FILE = "label.json"
SAME = 0.2  # a rate that differs by less is not worth a write


@dataclass(frozen=True, slots=True)
class Label:
    """The name that a person knows a model by, and its last prefill rate in tokens a second; empty where not known."""

    model: str = ""
    prefill_rate: float | None = None


class DiskLabels:
    """Each folder has its label in a small file. It is only there to be shown, so what is wrong with it costs the label
    and nothing else. For every thread.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: dict[Path, Label] = {}

    def add(self, place: Path, model: str, prefill_rate: float | None = None) -> None:
        """Write a folder's label, where it says something new."""
        before = self.of(place)
        new = Label(model, prefill_rate or before.prefill_rate)
        if before.model == model and _close(before.prefill_rate, new.prefill_rate) and (place / FILE).exists():
            return
        with self._lock:
            self._known[place] = new
        aside = place / f"{FILE}.{os.getpid()}-{os.urandom(4).hex()}{ASIDE}"
        with contextlib.suppress(OSError):  # a read-only folder or a full disk is told of where a state is written
            make_folder(place)
            aside.write_text(json.dumps({"model": new.model, "prefill_rate": new.prefill_rate}), encoding="ascii")
            os.replace(aside, place / FILE)

    def of(self, place: Path) -> Label:
        """A folder's label."""
        with self._lock:
            if place not in self._known:
                with contextlib.suppress(OSError, ValueError, RecursionError):
                    self._known[place] = _label(json.loads((place / FILE).read_bytes()))
            return self._known.get(place, Label())


def _close(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return before == now
    return abs(now - before) <= SAME * before


def _label(said: Any) -> Label:
    """What a file says, as far as `add` can have written it."""
    said = said if isinstance(said, dict) else {}
    model, rate = said.get("model"), said.get("prefill_rate")
    known = type(rate) in (int, float) and 0 < rate < float("inf")
    return Label(model if isinstance(model, str) else "", float(rate) if known else None)
