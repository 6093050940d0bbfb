"""Fetches a model to keep: from the Hugging Face Hub, or `ollama:NAME` by Ollama from its own library."""

from __future__ import annotations

import os
from pathlib import Path

from ..backends import ollama
from ..errors import DownloadError, ModelNotFoundError, OptionError
from ..models import ModelSource
from ..models.cache import find_cached
from ..models.hub import download as from_hub
from ..models.hub_errors import offline
from ..models.names import SCHEME, check_name, check_revision, check_text, is_repository, is_served
from ..models.progress import Progress
from ..models.resolve import POCKET

OLLAMA = "ollama"


def download(name: str, revision: str | None = None, progress: Progress | None = None) -> ModelSource:
    """Fetch a model, or what is missing or newer of one that is here; where it lies then.

    What came whole is kept when it is stopped, so that the next call goes on from there. With a `revision` (branch, tag
    or commit) that one is fetched, and goes by its folder.

    progress: called with the bytes done and in all; what it raises stops the download.

    Raises:
        ModelNotFoundError: the name is none of a model that can be fetched.
        DownloadError: offline, no such repository, no access, the disk too full, or the connection broke.
        ServerError: Ollama does not answer.
        NotAModelError: the repository has no model in safetensors.
        OptionError: the revision is none.
    """
    check_text(name)
    check_revision(revision)
    if name == POCKET:
        raise ModelNotFoundError("pocket comes with mlxnb.", "It is always here: %mlxnb load pocket.")
    if is_served(name):
        return _from_ollama(name, revision, progress)
    if name.startswith((".", "/", "~")) or os.path.exists(name):
        raise ModelNotFoundError(f"{name} is a path.", "What is here needs no download: %mlxnb load takes it.")
    plain = name.removeprefix(SCHEME)
    check_name(plain, name)
    if "/" not in plain or not is_repository(plain):
        raise ModelNotFoundError(f"{name!r} names no repository.", "It takes ORGANISATION/NAME, as the Hub has it.")
    try:
        folder, commit = from_hub(plain, revision, progress)
    except DownloadError as err:
        if find_cached(plain, revision) is None:
            raise
        why = f"{offline()} forbids the network." if offline() else err.message
        problem = f"{plain} is here, and nobody can be asked whether there is a newer one: {why}"
        raise DownloadError(problem, f"It loads as it is: %mlxnb load {plain}.") from err
    return ModelSource(str(folder) if revision else plain, folder, "hub", commit)


def _from_ollama(name: str, revision: str | None, progress: Progress | None) -> ModelSource:
    server, _, model = name.partition(":")
    if server.lower() != "ollama" or not model.strip():
        raise ModelNotFoundError(
            f"{name} is a model of a server.", "Fetch it with the server's own program; ollama:NAME is fetched here."
        )
    if revision is not None:
        raise OptionError(f"{name} has no revisions, but revision is {revision!r}.", "Put its tag behind a colon.")
    ollama.pull(model.strip(), progress)
    return ModelSource(f"{OLLAMA}:{model.strip()}", Path(), "server", format="served", served_as=model.strip())
