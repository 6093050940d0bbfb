"""How fast this machine copies and multiplies, measured once in a process of its own and remembered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..decision import Rejected
from ..records import Records
from .gpu import accelerators
from .processor import chip, cores

LIMIT = 120.0  # seconds; a busy machine takes some ten, an idle one a few, most of them importing
MARK = "mlxnb measured "  # begins each line of JSON that the measuring process prints
BUSY = 0.25  # of the processor taken by others, from which figures say more about them


@dataclass(frozen=True, slots=True)
class Speed:
    """One library on one device. `copy`: bytes read and written a second, of an array larger than any cache;
    `products`: operations a second (a multiplication and an addition are two) of a square matrix product, by dtype.
    """

    library: str
    device: str
    copy: float
    products: dict[str, float]


@dataclass(frozen=True, slots=True)
class Speeds:
    """What was measured, when, in seconds since the epoch, and the share of the processor that others took then.

    `broken` says of a library why it cannot be imported, `failed` why it was measured in part only.
    """

    measured: tuple[Speed, ...]
    at: float
    busy: float = 0.0
    broken: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


def speeds(store: Records, again: bool = False) -> Speeds | Rejected:
    """The speeds of this machine with the libraries that are installed: remembered, or measured now, which takes a
    few seconds; `again` measures in any case. What was measured on a busy machine, or in part, is not remembered.
    """
    key = _machine()
    record = None if again else store.get(key)
    found = _read(record) if record else None
    if found is not None:
        return found
    busy = _busy()
    measured = _measure()
    if isinstance(measured, Rejected):
        return measured
    record = {"at": time.time(), "busy": busy, "measured": [one for one in measured if "copy" in one]}
    record |= {kind: {one["library"]: one[kind] for one in measured if kind in one} for kind in ("broken", "failed")}
    if busy < BUSY and not record["broken"] and not record["failed"]:
        store.put(key, record)
    return _read(record) or Rejected("speed", f"the measurement gave what cannot be read: {str(measured)[:200]}")


def remembered(store: Records) -> Speeds | None:
    """What `speeds` has measured before; None where it has not, and nothing is measured now."""
    record = store.get(_machine())
    return _read(record) if record else None


def _busy() -> float:
    """The share of this machine's processor, 0 to 1, that was taken over a moment."""
    import psutil

    return psutil.cpu_percent(interval=0.3) / 100


def _machine() -> str:
    """What a measurement holds for."""
    gpus = [f"{gpu.name} {gpu.driver}" for gpu in accelerators()]
    return " · ".join(["speed", chip(), f"{cores().usable} cores", *gpus, *map(_version, ("torch", "mlx"))])


def _version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"


def _measure() -> list[dict[str, Any]] | Rejected:
    package = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", f"{__package__}.measure"]
    try:
        ran = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",  # a library may write anything to stderr
            timeout=LIMIT,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        )
        lines = [line.partition(MARK)[2] for line in ran.stdout.splitlines() if MARK in line]
        measured = [dict(json.loads(line)) for line in lines]
        if ran.returncode == 0:
            return measured or Rejected("speed", "neither torch nor mlx is installed to measure with")
    except subprocess.TimeoutExpired:
        return Rejected("speed", f"the measurement was not done after {LIMIT:.0f} s", "try again on a quieter machine")
    except OSError as err:
        return Rejected("speed", f"the measurement could not be started: {err}")
    except ValueError as err:
        return Rejected("speed", f"the measurement gave what cannot be read: {err}")
    why = (ran.stderr.strip().splitlines() or [f"exit status {ran.returncode}"])[-1]
    if measured:  # it died on the way, as a library's own code may
        return [*measured, {"library": "the measurement", "failed": why}]
    return Rejected("speed", f"the measurement failed: {why}")


def _read(record: dict[str, Any]) -> Speeds | None:
    try:
        measured = tuple(Speed(**speed) for speed in record["measured"])
        return Speeds(measured, float(record["at"]), float(record["busy"]), record["broken"], record["failed"])
    except (KeyError, TypeError, ValueError):
        return None
