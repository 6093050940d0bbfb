"""Where a panel writes: a file that is not there yet."""

from __future__ import annotations

from itertools import count
from pathlib import Path


def free_file(stem: str, suffix: str) -> Path:
    """`stem.suffix` in the folder of the notebook, or the first that is free of `stem-2.suffix`, `stem-3.suffix` …"""
    paths = (Path(f"{stem}{f'-{i}' if i > 1 else ''}.{suffix}") for i in count(1))
    return next(path for path in paths if not path.exists())
