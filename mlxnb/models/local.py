"""Models under the folder that LOCAL_MODELS_DIR names: found by their path in it, and never outside of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import ModelNotFoundError, NotAModelError
from .format import GENAI, GGUF
from .gguf_info import models_in
from .names import is_name

SUFFIX = "-4bit"
LEVELS = 2  # name, or organisation/name
MARKS = ("config.json", GENAI)  # what a folder with a model in safetensors or ONNX has


def find_local(name: str, root: Path) -> tuple[Path, str] | None:
    """The folder of a model under `root`, with a note when only the other spelling of its name is there.

    The name is one that `check_name` let pass. It is tried as it is, then with "-4bit" added or taken away. Only
    folders that hold a model count, and GGUF files, which go by their name without ".gguf".

    Raises:
        ModelNotFoundError: the name, or a link on its way, leads out of `root`.
    """
    other = name.removesuffix(SUFFIX) if name.endswith(SUFFIX) else name + SUFFIX
    for spelling in filter(None, (name, other)):
        folder, file = _contained(spelling, root), _contained(spelling + GGUF, root)
        found = folder if _is_model(folder) else file if os.path.isfile(file) else None
        if found is not None:
            note = "" if spelling == name else f"{name} is not there; {spelling} is, and was taken"
            return found, note
    return None


def _is_model(folder: Path) -> bool:
    return any(os.path.isfile(folder / mark) for mark in MARKS) or bool(gguf_models(folder))


def gguf_models(folder: Path) -> list[Path]:
    """The GGUF models in a folder; of one in several parts the first. None where it is no folder that can be read."""
    try:
        return models_in(folder) if folder.is_dir() else []
    except (NotAModelError, OSError):
        return []


def list_local(root: Path) -> Iterator[tuple[str, Path]]:
    """The name and place of every model under `root`, down to organisation/name, that `find_local` would find: its
    folder, or its file where a folder has several in GGUF, or has other folders too.
    """
    for name, place in _walk(root, "", LEVELS):
        if is_name(name) and _is_inside(place, root):
            yield name, place


def _walk(folder: Path, prefix: str, levels: int) -> Iterator[tuple[str, Path]]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
    except OSError:
        return  # A folder that may not be read holds nothing that could be loaded.
    for name in names if levels else ():
        inner = folder / name
        if any(os.path.isfile(inner / mark) for mark in MARKS) or len(gguf_models(inner)) == 1:
            yield prefix + name, inner
        elif levels > 1 or gguf_models(inner):
            yield from _walk(inner, f"{prefix}{name}/", max(levels - 1, 0))
    for file in gguf_models(folder):
        if file.suffix == GGUF:  # as find_local spells it, which looks for a folder first
            yield prefix + file.stem, file


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
