"""Fetches a model to keep, from where its name says that it is: the Hugging Face Hub, or a registry by its server."""

from __future__ import annotations

import os

from ..errors import ModelNotFoundError
from ..models import ModelSource
from ..models.hub import download as from_hub
from ..models.names import SCHEME, check_name, check_revision, check_text, is_repository, is_served
from ..models.progress import Progress
from ..models.resolve import POCKET


def download(name: str, revision: str | None = None, progress: Progress | None = None) -> ModelSource:
    """Fetch a model, or what is missing or newer of one that is here; where it lies then.

    What came whole is kept when it is stopped, so that the next call goes on from there. With a `revision` (branch, tag
    or commit) that one is fetched, and goes by its folder.

    progress: called with the bytes done and in all; what it raises stops the download.

    Raises:
        ModelNotFoundError: the name is none of a model that can be fetched.
        DownloadError: offline, no such repository, no access, the disk too full, or the connection broke.
        NotAModelError: the repository has no model in safetensors.
        OptionError: the revision is none.
    """
    check_text(name)
    check_revision(revision)
    if name == POCKET:
        raise ModelNotFoundError("pocket comes with mlxnb.", "It is always here: %mlxnb load pocket.")
    if is_served(name):
        raise ModelNotFoundError(f"{name} is a model of a server.", "Fetch it with the server's own program.")
    if name.startswith((".", "/", "~")) or os.path.exists(name):
        raise ModelNotFoundError(f"{name} is a path.", "What is here needs no download: %mlxnb load takes it.")
    plain = name.removeprefix(SCHEME)
    check_name(plain, name)
    if "/" not in plain or not is_repository(plain):
        raise ModelNotFoundError(f"{name!r} names no repository.", "It takes ORGANISATION/NAME, as the Hub has it.")
    folder, commit = from_hub(plain, revision, progress)
    return ModelSource(str(folder) if revision else plain, folder, "hub", commit)
