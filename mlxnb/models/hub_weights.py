"""Fetches the weight files of a repository so that what came of one is kept when it is stopped, and goes on from there.

huggingface_hub resumes within a call only: it deletes a file that is broken off, which for weights may be gigabytes.
The files go where it looks for them, under the names and locks that it uses, so that it only has to link them.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from ..errors import DownloadError
from .cache import cache_dir, storage_of
from .hub_errors import endpoint
from .progress import Reporter

AT_ONCE = 4  # files
TIMEOUT = 30.0  # seconds without a byte, after which a connection is taken for broken
TRIES = 5  # in a row that bring little
LITTLE = 1 << 20  # bytes
PATIENCE = 0.5  # seconds of waiting for another process's lock, after which a person is listened to
PARTIAL = ".incomplete"
ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # of a small file git's hash; of a large one sha256


class _Stopped(Exception):
    """Another file failed, or the person stopped the download."""


def fetch_weights(repository: str, commit: str, names: Iterable[str], reporter: Reporter) -> None:
    """Bring these files into the cache's blobs, several at once.

    Raises what the HTTP library, huggingface_hub or `reporter` raise; what has come by then is kept.

    Raises:
        DownloadError: what came is not what the Hub lists; it was deleted.
    """
    stop = Event()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = [pool.submit(_fetch, repository, commit, name, reporter, stop) for name in names]
        try:
            for future in as_completed(running):
                future.result()
        except BaseException:
            stop.set()
            for future in running:
                future.cancel()
            raise


def partial_bytes(repository: str) -> int:
    """Bytes of a repository that are here of files that are not whole."""
    blobs = storage_of(repository) / "blobs"
    parts = [path for path in blobs.glob(f"*{PARTIAL}") if ETAG.fullmatch(path.name.removesuffix(PARTIAL))]
    return sum(path.stat().st_size for path in parts)


def _fetch(repository: str, commit: str, name: str, reporter: Reporter, stop: Event) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repository, name, revision=commit, endpoint=endpoint())
    told = get_hf_file_metadata(url, endpoint=endpoint())
    if told.size is None or not told.etag or not ETAG.fullmatch(told.etag):
        return  # huggingface_hub fetches it in its own way
    storage = storage_of(repository)
    blob, lock = storage / "blobs" / told.etag, cache_dir() / ".locks" / storage.name / f"{told.etag}.lock"
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with _locked(lock, reporter, stop):
        if not blob.exists():
            _Transfer(url, blob, told.size, reporter, stop).run(repository, name)


@contextmanager
def _locked(lock: Path, reporter: Reporter, stop: Event) -> Iterator[None]:
    """Holds the lock that another process may have for hours: who waits for it can be stopped meanwhile."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock

    with ExitStack() as held:
        while not stop.is_set():
            try:
                held.enter_context(WeakFileLock(lock, timeout=PATIENCE))
                break
            except Timeout:
                reporter.beat()
        else:
            raise _Stopped
        yield


class _Transfer:
    """One file on its way into `blob`, of `size` bytes."""

    def __init__(self, url: str, blob: Path, size: int, reporter: Reporter, stop: Event) -> None:
        self._url, self._blob, self._size = url, blob, size
        self._part = blob.with_name(blob.name + PARTIAL)
        self._reporter, self._stop = reporter, stop
        self._hash = hashlib.sha256()
        self._here = 0

    def run(self, repository: str, name: str) -> None:
        """Fetch what is missing of it, check it, and put it into its place."""
        self._take_up()
        failed = 0
        while self._here < self._size:
            before = self._here
            broken = self._try()
            failed = failed + 1 if self._here - before < LITTLE else 0
            if failed == TRIES and self._here < self._size:
                raise broken or OSError("the connection ended early")
            if failed and self._here < self._size:
                time.sleep(2.0**failed / 4)
        if self._here != self._size or (len(self._blob.name) == 64 and self._hash.hexdigest() != self._blob.name):
            self._part.unlink()
            problem = f"{name} of {repository} came down other than the Hub lists it, and was deleted."
            raise DownloadError(problem, "Run it again.")
        os.replace(self._part, self._blob)

    def _take_up(self) -> None:
        """Go on from what came earlier, if anything did."""
        if not self._part.exists():
            return
        if self._part.stat().st_size > self._size:
            self._part.unlink()
            return
        with self._part.open("rb") as file:
            while piece := file.read(1 << 20):
                self._count(piece)

    def _try(self) -> Exception | None:
        """Fetch as much as comes; the error of a connection that broke, which the next try may mend."""
        from huggingface_hub.errors import HfHubHTTPError, HTTPError
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if self._here:
            headers["Range"] = f"bytes={self._here}-"
        try:
            with get_session().stream(
                "GET", self._url, headers=headers, timeout=TIMEOUT, follow_redirects=True
            ) as response:
                hf_raise_for_status(response)
                self._write(response)
        except HfHubHTTPError:
            raise
        except HTTPError as err:
            return err
        return None

    def _write(self, response: Any) -> None:
        if self._here and response.status_code != 206:  # the server begins anew
            self._reporter.add(-self._here)
            self._here, self._hash = 0, hashlib.sha256()
        with self._part.open("ab" if self._here else "wb") as file:
            for piece in response.iter_raw():
                file.write(piece)
                self._count(piece)

    def _count(self, piece: bytes) -> None:
        if self._stop.is_set():
            raise _Stopped
        self._hash.update(piece)
        self._here += len(piece)
        self._reporter.add(len(piece))
