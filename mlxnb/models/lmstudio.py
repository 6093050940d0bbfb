"""The models that LM Studio keeps on this machine, found in its folder whether or not it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .format import format_of
from .local import list_local
from .source import ModelSource

# Its home holds `models`; where it was moved, a file in the person's home names the new place.
POINTER = ".lmstudio-home-pointer"
HOMES = (".lmstudio", ".cache/lm-studio")


def list_lmstudio() -> Iterator[ModelSource]:
    """Each model in LM Studio's folder, in its layout PUBLISHER/MODEL, by its path, which any backend takes."""
    for folder in _folders():
        for name, place in list_local(folder):
            yield ModelSource(str(place), place, "path", note=name, format=format_of(place))


def _folders() -> list[Path]:
    try:
        home = Path.home()
        moved = (home / POINTER).read_text(encoding="utf-8").strip()
    except (OSError, RuntimeError, ValueError):
        moved = ""
    try:
        places = [Path(moved)] * bool(moved) + [Path.home() / name for name in HOMES]
    except RuntimeError:  # this user has no home
        return []
    return [folder for place in dict.fromkeys(places) if (folder := place / "models").is_dir()]
