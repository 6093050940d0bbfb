"""Says in our own words why a download failed; huggingface_hub's messages are pages long and name no next step."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import DownloadError
from .progress import Reporter

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
RESUME = "What came is kept: run it again to go on."


@contextmanager
def translated(repository: str, revision: str | None = None, reporter: Reporter | None = None) -> Iterator[None]:
    """Around calls of huggingface_hub: whatever they raise becomes a DownloadError, but what `reporter` was stopped by.

    HTTPError is the root of the HTTP library that huggingface_hub uses, httpx in its version 1 and httpx2 in 2.
    """
    from huggingface_hub.errors import HTTPError

    if offline():
        raise _offline_error(repository, offline())
    try:
        yield
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        if reporter and reporter.stopped:
            raise reporter.stopped from None
        raise download_error(error, repository, revision) from error


def offline() -> str:
    """The variable that forbids the network now, or ""."""
    names = (name for name in OFFLINE if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE"))
    return next(names, "")


def download_error(error: Exception, repository: str, revision: str | None) -> DownloadError:
    """The foreign error as ours. No text of the foreign one is taken over: it may hold a signed address."""
    from huggingface_hub import errors as hf

    if isinstance(error, hf.GatedRepoError):
        return _gated_error(repository)
    if isinstance(error, hf.RepositoryNotFoundError):
        return _missing_error(repository)
    if isinstance(error, hf.RevisionNotFoundError):
        return DownloadError(f"{repository} has no revision {revision!r}.", "Name a branch, a tag or a full commit.")
    if isinstance(error, hf.OfflineModeIsEnabled):
        return _offline_error(repository, OFFLINE[0])
    if isinstance(error, hf.HfHubHTTPError):
        return _status_error(error.response.status_code, repository)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DownloadError(f"The disk is full, so {repository} did not come down.", f"Make room. {RESUME}")
    if isinstance(error, PermissionError):
        return DownloadError(f"{repository} may not be written to {error.filename}.", "Set HF_HOME to your own folder.")
    return _broken_error(error, repository)


def _gated_error(repository: str) -> DownloadError:
    page = f"{endpoint()}/{repository}"
    if _has_token():
        return DownloadError(f"{repository} is gated, and your token has no access.", f"Ask for access at {page}.")
    remedy = f"Ask for access at {page}, then put your access token into the environment variable HF_TOKEN."
    return DownloadError(f"{repository} is gated: its owner grants access, and no token was given.", remedy)


def _missing_error(repository: str) -> DownloadError:
    remedy = "Check the spelling; a private model also needs an access token in the environment variable HF_TOKEN."
    return DownloadError(f"{endpoint()} has no model {repository}, or hides it.", remedy)


def _offline_error(repository: str, variable: str) -> DownloadError:
    problem = f"{repository} is not on this machine, and {variable} forbids the network."
    return DownloadError(problem, f"Unset {variable} and restart the kernel, or take a model of `%mlxnb models`.")


def _status_error(status: int, repository: str) -> DownloadError:
    if status in (401, 403):
        problem = f"{endpoint()} refused access to {repository} (status {status})."
        return DownloadError(problem, "Check the access token in the environment variable HF_TOKEN, or unset it.")
    if status == 429:
        problem = f"{endpoint()} takes no more requests from here for now (status 429)."
        return DownloadError(problem, f"Wait some minutes; a token in HF_TOKEN allows more. {RESUME}")
    return DownloadError(f"{endpoint()} failed on {repository} (status {status}).", f"Wait a little. {RESUME}")


def _broken_error(error: Exception, repository: str) -> DownloadError:
    kinds = {type(link).__name__ for link in _chain(error)}
    if kinds & {"ConnectError", "ConnectTimeout", "ProxyError", "PoolTimeout", "UnsupportedProtocol"}:
        problem = f"{endpoint()} cannot be reached, so {repository} did not come down."
        mirror = " and HF_ENDPOINT, which names this address" if os.environ.get("HF_ENDPOINT") else ""
        return DownloadError(problem, f"Check the network{mirror}; `pocket` works without one.")
    problem = f"The download of {repository} broke off ({type(error).__name__})."
    return DownloadError(problem, f"Nothing that was cut is used. {RESUME}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def endpoint() -> str:
    """The Hub's address; HF_ENDPOINT names a mirror."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None
