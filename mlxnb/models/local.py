"""Models under the folder that LOCAL_MODELS_DIR names: found by their path in it, and never outside of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import ModelNotFoundError
from .names import is_name

SUFFIX = "-4bit"
LEVELS = 2  # name, or organisation/name


def find_local(name: str, root: Path) -> tuple[Path, str] | None:
    """The folder of a model under `root`, with a note when only the other spelling of its name is there.

    The name is one that `check_name` let pass. It is tried as it is, then with "-4bit" added or taken away. Only
    folders with a config.json count.

    Raises:
        ModelNotFoundError: the name, or a link on its way, leads out of `root`.
    """
    other = name.removesuffix(SUFFIX) if name.endswith(SUFFIX) else name + SUFFIX
    for spelling in filter(None, (name, other)):
        folder = _contained(spelling, root)
        if os.path.isfile(folder / "config.json"):
            note = "" if spelling == name else f"{name} is not there; {spelling} is, and was taken"
            return folder, note
    return None


def list_local(root: Path) -> Iterator[tuple[str, Path]]:
    """The name and folder of every model under `root`, down to organisation/name, that `find_local` would find."""
    for name, folder in _walk(root, "", LEVELS):
        if is_name(name) and _is_inside(folder, root):
            yield name, folder


def _walk(folder: Path, prefix: str, levels: int) -> Iterator[tuple[str, Path]]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
    except OSError:
        return  # A folder that may not be read holds nothing that could be loaded.
    for name in names:
        if os.path.isfile(folder / name / "config.json"):
            yield prefix + name, folder / name
        elif levels > 1:
            yield from _walk(folder / name, f"{prefix}{name}/", levels - 1)


def _contained(name: str, root: Path) -> Path:
    folder = root / name
    if not _is_inside(folder, root):
        problem = f"{name} leads out of LOCAL_MODELS_DIR ({root}), to {os.path.realpath(folder)}."
        raise ModelNotFoundError(problem, "To use that folder, give its path.")
    return folder


def _is_inside(folder: Path, root: Path) -> bool:
    """Whether `folder` lies below `root` once every link is followed."""
    real, target = Path(os.path.realpath(root)), Path(os.path.realpath(folder))
    return real in target.parents
