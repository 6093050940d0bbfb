"""Turns a model's name into the folder that holds it, and says where it was found."""

from __future__ import annotations

import os
from pathlib import Path

from ..config import local_models_dir
from ..errors import DownloadError, ModelNotFoundError, NotAModelError, OptionError
from .cache import cache_dir, find_cached, storage_of
from .find import close_names, find_models
from .format import GGUF, format_of
from .hub import download as fetch
from .local import find_local
from .names import SCHEME, check_name, check_revision, check_text, is_repository, is_served
from .progress import Progress
from .source import ModelSource

POCKET = "pocket"


def resolve(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    download: bool = True,
    progress: Progress | None = None,
) -> ModelSource:
    """The folder of a model, looked for in this order; the first that has it is taken, and the source says which.

    1. "pocket", which ships with mlxnb; 2. a path: absolute, or with ./ ../ or ~ in front, or of a folder or a GGUF
    file that exists; 3. a name under LOCAL_MODELS_DIR, with or without "-4bit"; 4. the Hugging Face cache; 5. the
    Hugging Face Hub, for ORGANISATION/NAME and if `download`. "mlx://NAME" stands for 3 and 4 only. Steps 1 to 4 use no
    network. `revision`
    (branch, tag or commit) goes straight to 4.

    progress: called during a download with the bytes done and in all; what it raises stops the download.

    Raises:
        ModelNotFoundError: no model goes by the name; says where it was looked for, and what comes close.
        NotAModelError: the name leads to something else, such as a single file.
        DownloadError: fetching it failed.
        OptionError: the revision is none, or the model has no revisions.
    """
    check_text(name)
    text = os.fspath(name)
    check_revision(revision)
    if text == POCKET or _is_path(name):
        if revision is not None:
            raise OptionError(f"{text} has no revisions, but revision is {revision!r}.", "Leave it out.")
        return _pocket() if text == POCKET else _from_path(text)
    if is_served(text):
        raise ModelNotFoundError(f"{text} names a model of a server.", "Ask for it with --backend server.")
    plain = text.removeprefix(SCHEME)
    check_name(plain, text)
    found = _from_local(text, plain, revision) or _from_cache(text, plain, revision)
    if found:
        return found
    if download and text == plain and "/" in plain and is_repository(plain):
        return _from_hub(text, revision, progress)
    raise _not_found(text, plain, revision)


def folder_of(name: str | os.PathLike[str]) -> Path | None:
    """The folder that `name` stands for now, if it is found by steps 2 and 3 of `resolve`; None for every other name.

    Raises:
        ModelNotFoundError: the name leads out of LOCAL_MODELS_DIR.
    """
    check_text(name)
    text = os.fspath(name)
    if text == POCKET or is_served(text):
        return None
    if _is_path(name):
        return Path(os.path.abspath(os.path.expanduser(text)))
    plain = text.removeprefix(SCHEME)
    check_name(plain, text)
    local = _from_local(text, plain, None)
    return local.path if local else None


def _pocket() -> ModelSource:
    from ..pocket import path

    return ModelSource(POCKET, path(), "pocket")


def _is_path(name: str | os.PathLike[str]) -> bool:
    text = os.fspath(name)
    marked = text in (".", "..") or text.startswith(("./", "../", "~"))
    return not isinstance(name, str) or marked or os.path.isabs(text) or os.path.exists(text)


def _from_path(name: str) -> ModelSource:
    path = Path(os.path.abspath(os.path.expanduser(name)))
    if os.path.isdir(path):
        return ModelSource(name, path, "path", format=format_of(path))
    if path.suffix.lower() == GGUF and path.is_file():
        return ModelSource(name, path, "path", format="gguf")
    if os.path.exists(path):
        raise NotAModelError(f"{name} is a file, not a folder.", f"Give the folder of the model: {path.parent}.")
    close = close_names(path.name, _names_beside(path))
    hint = f"Did you mean {path.parent / close[0]}?" if close else "Check the path."
    kind = "file" if path.suffix.lower() == GGUF else "folder"
    raise ModelNotFoundError(f"There is no {kind} {name if name[0] == '~' else path}.", hint)


def _names_beside(path: Path) -> list[str]:
    try:
        return os.listdir(path.parent)
    except OSError:
        return []


def _from_local(name: str, plain: str, revision: str | None) -> ModelSource | None:
    root = local_models_dir()
    found = find_local(plain, root) if root and revision is None else None
    return ModelSource(name, found[0], "local", note=found[1], format=format_of(found[0])) if found else None


def _from_cache(name: str, plain: str, revision: str | None) -> ModelSource | None:
    found = find_cached(plain, revision) if is_repository(plain) else None
    return ModelSource(name, found[0], "cache", found[1], format=format_of(found[0])) if found else None


def _from_hub(name: str, revision: str | None, progress: Progress | None) -> ModelSource:
    try:
        folder, commit = fetch(name, revision, progress)
    except DownloadError as error:
        close = _close_here(name)
        hint = f"{error.remedy} Here already: {' and '.join(close)}." if close else error.remedy
        raise DownloadError(error.message, hint) from error.__cause__
    return ModelSource(name, folder, "hub", commit)


def _close_here(name: str) -> list[str]:
    return close_names(name, [source.name for source in find_models()])


def _not_found(name: str, plain: str, revision: str | None) -> ModelNotFoundError:
    at = f" at revision {revision}" if revision else ""
    problem = f"No model goes by {name!r}{at}. Looked in {', '.join(_looked(name, plain, revision))}."
    close = _close_here(plain)
    if close:
        return ModelNotFoundError(problem, f"Did you mean {' or '.join(close)}?")
    if name != plain:
        return ModelNotFoundError(problem, f"{SCHEME} never downloads; ORGANISATION/NAME without it does.")
    if "/" in plain:
        return ModelNotFoundError(problem, "Allow the download, or take a model of `%mlxnb models`.")
    return ModelNotFoundError(problem, "A model to download is named ORGANISATION/NAME; `pocket` is always here.")


def _looked(name: str, plain: str, revision: str | None) -> list[str]:
    """The places that were searched, each with what kept the model from being found there, where that is known."""
    places = [] if name != plain else [f"this folder ({os.getcwd()})"]
    root = local_models_dir()
    if revision is None:
        missing = "" if root and os.path.isdir(root) else ", no such folder"
        places.append(f"LOCAL_MODELS_DIR ({root}{missing})" if root else "LOCAL_MODELS_DIR (not set)")
    part = ", which holds it only in part" if os.path.isdir(storage_of(plain)) else ""
    return [*places, f"the Hugging Face cache ({cache_dir()}){part}"]
