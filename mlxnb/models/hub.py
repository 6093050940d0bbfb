"""Downloads a model from the Hugging Face Hub into its cache: only data files, and only when the disk has room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from ..errors import DownloadError, NotAModelError
from ..hardware import human_bytes
from .cache import UNWANTED, WANTED, cache_dir, is_whole, storage_of
from .files import PICKLES, WEIGHTS
from .hub_errors import endpoint, translated
from .hub_weights import fetch_weights, partial_bytes
from .names import SAFE
from .progress import Progress, Reporter

TIMEOUT = 20.0  # seconds for the Hub to answer with the list of files


def download(repository: str, revision: str | None = None, progress: Progress | None = None) -> tuple[Path, str]:
    """Fetch a model; its folder and commit. What is here is kept, half a weight file too: a second call goes on.

    progress: called with the bytes done and in all, from one thread at a time; what it raises stops the download.

    Raises:
        DownloadError: offline, no such repository, no access, the disk too full, or the connection broke.
        NotAModelError: the repository has no model in safetensors.
    """
    with translated(repository, revision):
        commit, sizes = _list_files(repository, revision)
    missing = _missing(repository, commit, sizes)
    _check_disk(repository, max(0, sum(missing.values()) - partial_bytes(repository)))
    reporter = Reporter(progress, sum(sizes.values()), sum(sizes.values()) - sum(missing.values()))
    with translated(repository, revision, reporter):
        fetch_weights(repository, commit, [name for name in missing if fnmatch(name, WEIGHTS)], reporter)
        folder = _fetch(repository, revision, reporter)
    _check_complete(repository, folder, sizes)
    reporter.report(sum(missing.values()))
    return folder, folder.name


def _list_files(repository: str, revision: str | None) -> tuple[str, dict[str, int]]:
    """The commit that `revision` stands for, and the size in bytes of each wanted file in it."""
    from huggingface_hub import HfApi

    info = HfApi(endpoint=endpoint()).model_info(repository, revision=revision, files_metadata=True, timeout=TIMEOUT)
    files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    _check_model(repository, list(files))
    return str(info.sha), {name: size for name, size in files.items() if is_wanted(name)}


def is_wanted(name: str) -> bool:
    """Whether a repository's file belongs to the model as we load it."""
    return any(fnmatch(name, pattern) for pattern in WANTED) and not any(fnmatch(name, no) for no in UNWANTED)


def _check_model(repository: str, names: list[str]) -> None:
    weights = [name for name in names if fnmatch(name, WEIGHTS)]
    if weights and "config.json" in names:
        return
    if any(name.lower().endswith(".gguf") for name in names):
        problem = "has GGUF files, which are for llama.cpp"
    elif any(name.endswith(PICKLES) for name in names) and not weights:
        problem = "has its weights only as pickles, which can run code when they are read"
    elif "adapter_config.json" in names:
        problem = "is a LoRA adapter, not a whole model"
    else:
        problem = "has no config.json" if weights else f"has no {WEIGHTS}"
    raise NotAModelError(f"{repository} {problem}.", f"Nothing was downloaded. Take {SAFE}.")


def _missing(repository: str, commit: str, sizes: dict[str, int]) -> dict[str, int]:
    folder = storage_of(repository) / "snapshots" / commit
    return {name: size for name, size in sizes.items() if not os.path.exists(folder / name)}


def _check_disk(repository: str, need: int) -> None:
    folder = next(path for path in (cache_dir(), *cache_dir().parents) if os.path.exists(path))
    free = shutil.disk_usage(folder).free
    if need > free:
        problem = f"{repository} needs {human_bytes(need)} of disk and {folder} has {human_bytes(free)} free."
        raise DownloadError(problem, "Make room, or set HF_HOME to a folder on another disk. Nothing was downloaded.")


def _fetch(repository: str, revision: str | None, reporter: Reporter) -> Path:
    from huggingface_hub import snapshot_download

    with _quiet():
        folder = snapshot_download(
            repository,
            revision=revision,
            cache_dir=cache_dir(),
            endpoint=endpoint(),
            allow_patterns=list(WANTED),
            ignore_patterns=list(UNWANTED),
            tqdm_class=reporter.bar_class(),
        )
    return Path(folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back huggingface_hub's warnings: they print whole addresses, and a signed one is as good as a password."""
    from huggingface_hub.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _check_complete(repository: str, folder: Path, sizes: dict[str, int]) -> None:
    """What came is held against the Hub's own list: nothing that was cut is ever used."""
    short = [name for name, size in sizes.items() if size and _size(folder / name) != size]
    if short or not is_whole(folder):
        problem = f"{repository} came down incomplete ({', '.join(short[:3]) or 'a weight file is missing'})."
        raise DownloadError(problem, f"Delete {storage_of(repository)} and ask for the model again.")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
