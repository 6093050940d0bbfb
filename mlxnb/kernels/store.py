"""What tuning found, remembered for each machine, path version and shape class."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ..config import cache_dir
from ..records import Records


def shared_store() -> Records:
    """The process's store in the cache folder: what one part measures, every other knows."""
    return _store_in(cache_dir() / "kernels" / "tuning")


@cache
def _store_in(folder: Path) -> Records:
    return Records(folder, "Kernel measurements")
