"""Finished rows of a table on disk: a line each, appended as it finishes, so that a run goes on after a crash."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from ..decision import Accepted, Decision, Rejected
from ..hardware import human_bytes
from ..result import Result
from . import codec
from .entry_file import sync_folder
from .private import login_in, make_folder, secret_in
from .results import Usage
from .warn import WarnOnce

SUFFIX, ASIDE = ".rows", ".aside"
SUBJECT = "journal"


class Journal:
    """The rows of one run in one file, by their keys; a row that is there twice is the later one.

    A line is a checksum over the rest, the answer's length, the key and the answer as ASCII JSON. It begins with its
    line break and is written at once, so that one that a crash cut in two hurts neither those before nor those after
    it. Every method may be called from any thread, several processes may append, and what is wrong with the file is
    warned of once: it costs rows, never an answer.
    """

    def __init__(self, path: Path, warn: WarnOnce | None = None) -> None:
        self.path = path
        self._warn = warn or WarnOnce()
        self._lock = Lock()
        self._unsynced = False

    def read(self) -> dict[str, Result]:
        """The rows that are whole. What is half written at the end is left out, and so is what is damaged."""
        rows: dict[str, Result] = {}
        for line in self._lines():
            try:
                whole = _whole(line)
                if whole is not None:
                    rows[whole[0]] = codec.decode(whole[1])
            except ValueError as err:
                self._warn("row", f"A row in {self.path} was dropped: {err}. It will be generated again.")
        return rows

    def holds(self) -> tuple[str, int]:
        """Which model answered, empty where no row tells, and how many rows there are: no row is decoded but the first
        that tells it.
        """
        model, keys = "", set()
        for key, body in filter(None, map(_sound, self._lines())):
            with suppress(ValueError):  # whoever reads the row warns of it
                model = model or codec.decode(body).provenance.model
            keys.add(key)
        return model, len(keys)

    def put(self, key: str, result: Result, asked: bytes) -> Decision:
        """Append a row, or say why not: it outlives this process at once, and a power cut after `sync`. `asked` is the
        request as JSON: a row that holds a secret, in what was asked or in its answer, leaves nothing here.
        """
        try:
            body = codec.encode(result)
        except TypeError as err:
            return Rejected(SUBJECT, str(err))
        secret = secret_in(asked) or login_in(asked) or secret_in(body) or login_in(body)
        if secret is not None:
            return Rejected(SUBJECT, f"it holds {secret}")
        try:
            with self._lock:
                self._append(_line(key, body))
        except OSError as err:
            self._warn("journal", f"Rows cannot be kept in {self.path} ({err}): an interrupted run begins anew.")
            return Rejected(SUBJECT, "its file cannot be used now")
        return Accepted(SUBJECT, human_bytes(len(body)))

    def sync(self) -> None:
        """Have what was put on the disk when this returns. Rows that finish together share the few ms that it takes."""
        with self._lock:
            if not self._unsynced:
                return
            self._unsynced = False
            try:
                with _opened(self.path, os.O_APPEND) as file:
                    os.fsync(file)
                sync_folder(self.path.parent)
            except OSError as err:
                self._warn("journal", f"Rows cannot be kept in {self.path} ({err}): an interrupted run begins anew.")

    def forget(self, keys: Collection[str]) -> None:
        """Write the file anew without these rows.

        Raises:
            OSError: it cannot be written; it is as it was.
        """
        with self._lock:
            lines = self._lines()
            left = [line for line in lines if (whole := _sound(line)) is not None and whole[0] not in keys]
            if not lines or len(left) == len(lines):
                return
            aside = self.path.with_suffix(f".{os.getpid()}{ASIDE}")
            with _opened(aside, os.O_TRUNC) as file:
                _write(file, b"".join(b"\n" + line for line in left))
                os.fsync(file)
            os.replace(aside, self.path)
            sync_folder(self.path.parent)

    def _append(self, line: bytes) -> None:
        make_folder(self.path.parent)
        # Opened for each row: what clears the folder may take the file away in between, also where open files stay.
        with _opened(self.path, os.O_APPEND) as file:
            _write(file, line)
        self._unsynced = True

    def _lines(self) -> list[bytes]:
        try:
            return [line for line in self.path.read_bytes().split(b"\n") if line]
        except FileNotFoundError:
            return []
        except OSError as err:
            self._warn("journal", f"The rows in {self.path} cannot be read ({err}): they are generated again.")
            return []


class Journals:
    """The journals of an engine in `folder`: at most `limit` bytes besides the one in use, none older than `lifetime`
    seconds. The least recently written go first.
    """

    def __init__(self, folder: Path, limit: int, lifetime: float | None = None, warn: WarnOnce | None = None) -> None:
        self.folder, self.limit, self.lifetime = folder, limit, lifetime
        self._warn = warn or WarnOnce()

    def open(self, run: str) -> Journal:
        """The journal of a run, by its `run_key`; nothing is made before its first row."""
        path = self.folder / f"{run}{SUFFIX}"
        self._prune(path)
        return Journal(path, self._warn)

    def clear(self) -> int:
        """Delete every journal; how many rows there were."""
        rows = 0
        for path, _, _ in self._files():
            journal = Journal(path, self._warn)
            number = len(journal.read())
            rows += number if self._delete(path) else 0
        for path in self.folder.glob(f"*{ASIDE}"):  # which a crash left, with text of answers in it
            self._delete(path)
        return rows

    def usage(self) -> dict[str, Usage]:
        """The rows that are kept, by model; the bytes are those of their files."""
        found: dict[str, Usage] = {}
        for path, size, _ in self._files():
            model, rows = Journal(path, self._warn).holds()
            found[model] = found.get(model, Usage()) + Usage(rows, size)
        return found

    def resize(self, limit: int, lifetime: float | None) -> None:
        """Another limit and another lifetime from now on; what is over them goes at once."""
        self.limit, self.lifetime = limit, lifetime
        self._prune()

    def _prune(self, own: Path | None = None) -> None:
        left, now = self.limit, time.time()
        for path, size, changed in sorted(self._files(), key=lambda file: -file[2]):
            stale = self.lifetime is not None and now - changed > self.lifetime
            left -= 0 if path == own else size
            if stale or (left < 0 and path != own):
                self._delete(path)

    def _files(self) -> list[tuple[Path, int, float]]:
        files = []
        try:
            for path in self.folder.glob(f"*{SUFFIX}"):
                stat = path.stat()
                files.append((path, stat.st_size, stat.st_mtime))
        except OSError as err:
            self._warn("journals", f"The rows in {self.folder} cannot be listed ({err}).")
        return files

    def _delete(self, path: Path) -> bool:
        try:
            path.unlink(missing_ok=True)
        except OSError as err:
            self._warn("journals", f"The rows in {path} cannot be deleted ({err}).")
            return False
        return True


def _line(key: str, body: bytes) -> bytes:
    rest = f"{len(body)} {key} ".encode("ascii") + body
    return b"\n" + _checksum(rest) + b" " + rest


def _whole(line: bytes) -> tuple[str, bytes] | None:
    """The key and the answer of a line; None where its end was never written.

    Raises:
        ValueError: it is damaged.
    """
    checksum, _, rest = line.partition(b" ")
    parts = rest.split(b" ", 2)
    if len(parts) < 3 or not parts[0].isdigit() or len(parts[2]) < int(parts[0]):
        return None
    if _checksum(rest) != checksum:
        raise ValueError("its checksum does not match")
    return parts[1].decode("ascii"), parts[2]


def _sound(line: bytes) -> tuple[str, bytes] | None:
    try:
        return _whole(line)
    except ValueError:
        return None


def _checksum(rest: bytes) -> bytes:
    return hashlib.blake2b(rest, digest_size=16).hexdigest().encode("ascii")


@contextmanager
def _opened(path: Path, how: int) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how | getattr(os, "O_BINARY", 0), 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
