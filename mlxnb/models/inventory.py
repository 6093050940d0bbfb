"""Everything that is on this machine as a list: each model with its size, format, shape and whether it fits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .. import config
from ..errors import MlxnbError
from ..hardware import memory_free
from .cache import cache_dir, is_usable, repository_of
from .entry import Ask, Entry, entry_of
from .find import find_models
from .lmstudio import list_lmstudio
from .local import gguf_models
from .source import ModelSource

PLACES = {"pocket": "in mlxnb", "local": "LOCAL_MODELS_DIR", "cache": "Hugging Face cache"}
LMSTUDIO = "LM Studio"


def inventory(context: int | None = None, free: int | None = None) -> list[Entry]:
    """Every model in mlxnb, under LOCAL_MODELS_DIR, in the Hugging Face cache and in LM Studio's folder, whole or not.

    context: the tokens for which a model should have room, None for 4,096. free: bytes of memory to hold them against;
    what is free now unless given. Reads headers only; a model that is damaged is an entry that says so.
    """
    ask = Ask(context, memory_free() if free is None else free)
    entries = [entry_of(source, PLACES[source.kind], ask) for source in find_models()]
    entries += _missing_folder()
    entries += [entry for storage in sorted(cache_dir().glob("models--*")) for entry in _odd(storage, ask)]
    known = {entry.path for entry in entries}
    entries += [entry_of(source, LMSTUDIO, ask) for source in list_lmstudio() if source.path not in known]
    return entries


def _missing_folder() -> list[Entry]:
    """A LOCAL_MODELS_DIR that is away, such as on a disk that is not connected."""
    try:
        root = config.local_models_dir()
    except MlxnbError:
        return []
    if root is None or root.is_dir():
        return []
    problem, remedy = f"LOCAL_MODELS_DIR ({root}) is no folder.", "Connect its disk, or set it to another folder."
    return [Entry(str(root), PLACES["local"], "", root, problem=problem, remedy=remedy)]


def _odd(storage: Path, ask: Ask) -> Iterator[Entry]:
    """What the cache holds of a repository beside a whole main branch: other revisions, GGUF files, half a model."""
    try:
        snapshots = {path.name: path for path in (storage / "snapshots").iterdir() if path.is_dir()}
        refs = {_ref(path): path.name for path in (storage / "refs").rglob("*") if path.is_file()}
        half = any(storage.glob("blobs/*.incomplete"))
    except OSError:  # an empty shell, as other tools leave it
        snapshots, refs, half = {}, {}, any(storage.glob("blobs/*.incomplete"))
    name = repository_of(storage / "snapshots" / "x") or storage.name
    listed = False
    for commit, folder in sorted(snapshots.items()):
        called = f"{name} at {refs.get(commit, commit)}"
        for file in gguf_models(folder):
            yield entry_of(ModelSource(str(file), file, "path", note=called, format="gguf"), PLACES["cache"], ask)
            listed = True
        if is_usable(folder):
            listed = True
            if refs.get(commit) != "main":
                source = ModelSource(str(folder), folder, "path", commit, note=called)
                yield entry_of(source, PLACES["cache"], ask)
        elif _has_weights(folder) and not half:
            yield entry_of(ModelSource(name, folder, "cache", commit), PLACES["cache"], ask)
            listed = True
    if half and not listed:
        problem = f"{name} was downloaded in part only."
        path = next(iter(snapshots.values()), storage)
        yield Entry(name, PLACES["cache"], "", path, problem=problem, remedy=f"%mlxnb download {name} goes on.")


def _ref(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _has_weights(folder: Path) -> bool:
    """Whether a snapshot has a model's configuration and weights of some kind: tools keep tokenizers alone, too."""
    found = {path.suffix for path in folder.iterdir()}
    return (folder / "config.json").exists() and bool(found & {".safetensors", ".bin", ".pt", ".pth"})
