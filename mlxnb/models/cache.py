"""Models in the Hugging Face cache, which other tools fill too: found without network, and only when whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import DamagedModelError, NotAModelError
from .files import WEIGHTS, has_tokenizer, listing, weight_files

# What a model needs and nothing else: no pickle, no Python file, no second copy of the weights in a subfolder.
WANTED = ("*.json", WEIGHTS, "*.jinja", "*.tiktoken", "tokenizer.model", "tiktoken.model",
          "spiece.model", "sentencepiece.bpe.model", "vocab.txt", "merges.txt")  # fmt: skip
UNWANTED = ("*/*",)


def cache_dir() -> Path:
    """The folder of the cache as the environment gives it now, every link followed, as huggingface_hub does.

    huggingface_hub reads these variables once, when it is imported; in a notebook they are often set after that.
    """
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "huggingface"
    )
    folder = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.realpath(os.path.expandvars(os.path.expanduser(folder))))


def find_cached(repository: str, revision: str | None = None) -> tuple[Path, str] | None:
    """The folder and commit of a repository that the cache holds completely, or None."""
    storage = storage_of(repository)
    if not os.path.isdir(storage):
        return None
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            cache_dir=storage.parent,
            allow_patterns=list(WANTED),
            ignore_patterns=list(UNWANTED),
            local_files_only=True,
        )
    except (OSError, ValueError):  # not there, there in part, not to be read, or the note of its commit is damaged
        return None
    path = Path(folder)
    return (path, path.name) if path.parent == storage / "snapshots" and is_usable(path) else None


def storage_of(repository: str) -> Path:
    """Where the cache keeps a repository, whether or not it is there."""
    return cache_dir() / f"models--{repository.replace('/', '--')}"


def repository_of(folder: Path) -> str | None:
    """The repository that a snapshot's folder belongs to, or None for a folder elsewhere."""
    storage = folder.parent.parent
    if folder.parent.name != "snapshots" or not storage.name.startswith("models--"):
        return None
    return storage.name.removeprefix("models--").replace("--", "/")


def is_usable(folder: Path) -> bool:
    """Whether a snapshot is whole and has a tokenizer; older tools left no list of files to hold it against."""
    return is_whole(folder) and has_tokenizer(listing(folder))


def is_whole(folder: Path) -> bool:
    """Whether a snapshot has its configuration and every weight file."""
    try:
        files = [folder / "config.json", *weight_files(folder, listing(folder))]
    except (NotAModelError, DamagedModelError):
        return False
    return all(os.path.isfile(file) for file in files)


def list_cached() -> Iterator[tuple[str, Path, str]]:
    """The name, folder and commit of every model whose main branch is in the cache, in order of their names.

    Reads the folders' documented layout (models--ORG--NAME/refs/main and snapshots/COMMIT) rather than asking
    huggingface_hub, whose scan weighs every file: too slow for tab completion.
    """
    for storage in sorted(cache_dir().glob("models--*")):
        try:
            commit = (storage / "refs" / "main").read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            continue
        folder = storage / "snapshots" / commit
        if commit.isalnum() and is_usable(folder):
            yield repository_of(folder) or storage.name, folder, commit
