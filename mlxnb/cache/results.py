"""The result cache: finished answers in one SQLite file, which several processes share, bounded in bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypeVar

from ..decision import Accepted, Decision, Rejected
from ..hardware import human_bytes
from ..result import Result
from . import codec
from .database import ForeignFileError, connect, drop_damaged, inode, is_busy, is_damage, move_aside, waiting, wipe
from .private import login_in, secret_in
from .stats import Ledger
from .warn import WarnOnce

LIMIT = 256_000_000
STEP = 100  # answers that a clear deletes in one transaction: other processes write between two
SUBJECT = "result cache"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a cache holds of one model, or in all: entries, and their bytes."""

    entries: int = 0
    bytes: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.entries + other.entries, self.bytes + other.bytes)


class ResultCache:
    """Every method may be called from any thread, and none raises for what is wrong with the file: it warns once, the
    answer counts as not cached, and the file is left alone for `pause` seconds (or moved aside where it is damaged).
    Where another process is just writing, the answer counts as not cached this once, without a word.

    Args:
        path: the SQLite file, made on first use.
        limit: bytes that the answers may take; the least recently used ones go first.
        lifetime: seconds after which an answer counts no more; None is for ever.
        wait: seconds to wait for another process that is writing.
        patience: the same for `clear`, which someone asked for.
        stats: counts the evictions.
    """

    def __init__(
        self,
        path: Path,
        limit: int = LIMIT,
        lifetime: float | None = None,
        warn: WarnOnce | None = None,
        wait: float = 0.5,
        pause: float = 30.0,
        stats: Ledger | None = None,
        patience: float = 5.0,
    ) -> None:
        self.path, self.limit, self.lifetime = path, limit, lifetime
        self._warn = warn or WarnOnce()
        self._stats = stats or Ledger()
        self._wait, self._patience, self._pause, self._resting_until = wait, patience, pause, 0.0
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened_by = 0
        self._inode: int | None = None

    def get(self, key: str) -> Result | None:
        """The answer stored under a key, as it was stored; None where there is none to be had."""

        def find(db: sqlite3.Connection) -> Result | None:
            row = db.execute("SELECT body, checksum, made FROM answer WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            result = None if self._stale(row[2]) else self._read(key, row[0], row[1])
            told = (
                "DELETE FROM answer WHERE key = ?"
                if result is None
                else "UPDATE answer SET used = (SELECT max(used) + 1 FROM answer) WHERE key = ?"
            )
            # The answer is read: it neither waits for a lock nor is lost with the order of use.
            with waiting(db, 0, self._wait), contextlib.suppress(sqlite3.OperationalError):
                db.execute(told, (key,))
            return result

        return self._attempt(find, None)

    def put(self, key: str, result: Result) -> Decision:
        """Store an answer, or say why not."""
        try:
            body = codec.encode(result)
        except TypeError as err:
            return Rejected(SUBJECT, str(err))
        verdict = self._storable(result, body)
        if not verdict:
            return verdict
        size = len(key) + len(body)
        model = result.provenance.model.encode("utf-8", "backslashreplace").decode()  # SQLite takes no lone surrogate

        def add(db: sqlite3.Connection) -> Decision:
            self._evicting(db, lambda: self._insert(db, key, model, body, size))
            return Accepted(SUBJECT, human_bytes(size))

        refused: Decision = Rejected(SUBJECT, "its file cannot be used now")
        return self._attempt(add, refused)

    def resize(self, limit: int, lifetime: float | None) -> None:
        """Another limit and another lifetime from now on; what is over them goes at once."""
        self.limit, self.lifetime = limit, lifetime

        def shrink(db: sqlite3.Connection) -> None:
            self._drop_stale(db)
            self._evicting(db, lambda: self._evict(db))

        if inode(self.path) is not None:
            self._attempt(shrink, None, anyway=True)

    def _evicting(self, db: sqlite3.Connection, work: Callable[[], Counter[str]]) -> None:
        """Run `work` as one transaction, and count what it says was evicted."""
        db.execute("BEGIN IMMEDIATE")
        try:
            evicted = work()
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        for model, number in evicted.items():
            self._stats.evicted("result", model, number)

    def clear(self) -> int:
        """Forget every answer, so that nothing of its text is left in the files, those moved aside included; how many
        there were. Where another process is reading or writing just then, text stays in SQLite's log until the last
        one closes the file. Answers that could not be cleared are told of, every time.
        """
        gone = 0

        def forget(db: sqlite3.Connection) -> bool:
            nonlocal gone
            with waiting(db, self._patience, self._wait):
                last = db.execute("SELECT max(rowid) FROM answer").fetchone()[0] or 0
                oldest = "SELECT rowid FROM answer WHERE rowid <= ? ORDER BY rowid LIMIT ?"
                while number := db.execute(f"DELETE FROM answer WHERE rowid IN ({oldest})", (last, STEP)).rowcount:
                    gone += number
            if not wipe(db):
                said = f"Another process uses {self.path}: text of cleared answers stays beside it until that one ends."
                self._warn("wipe", said)
            return True

        if not self._attempt(forget, False, anyway=True) and inode(self.path) is not None:
            self._warn.every_time(f"The answers in {self.path} could not be cleared, or not all: try again.")
        drop_damaged(self.path, keep=0)
        return gone

    def usage(self) -> dict[str, Usage] | None:
        """What is stored, by model; None where the file cannot be read now."""
        query = "SELECT model, count(*), sum(bytes) FROM answer GROUP BY model ORDER BY model"
        return self._attempt(lambda db: {m: Usage(n, size) for m, n, size in db.execute(query)}, None)

    def close(self) -> None:
        """Let go of the file; a later call opens it again."""
        with self._lock:
            self._drop_connection()

    def _storable(self, result: Result, body: bytes) -> Decision:
        if result.finish_reason == "interrupted":
            return Rejected(SUBJECT, "an interrupted answer is not whole")
        if getattr(result, "cached", False):
            return Rejected(SUBJECT, "the answer came from the cache")
        secret = secret_in(body) or login_in(codec.as_json(result.provenance))
        if secret is not None:
            return Rejected(SUBJECT, f"the answer holds {secret}")
        if len(body) + 64 > self.limit:
            return Rejected(SUBJECT, f"the answer takes {human_bytes(len(body))} of {human_bytes(self.limit)}")
        return Accepted(SUBJECT)

    def _insert(self, db: sqlite3.Connection, key: str, model: str, body: bytes, size: int) -> Counter[str]:
        """Insert, and drop the least recently used as far as needed; how many went, by model."""
        self._drop_stale(db)
        db.execute("DELETE FROM answer WHERE key = ?", (key,))
        db.execute(
            "INSERT INTO answer SELECT ?, ?, ?, ?, ?, ?, coalesce(max(used), 0) + 1 FROM answer",
            (key, model, body, _checksum(key, body), size, time.time()),
        )
        return self._evict(db, key)

    def _evict(self, db: sqlite3.Connection, keep: str = "") -> Counter[str]:
        """Drop the least recently used, but for the answer under `keep`, until the limit holds; how many, by model."""
        over = db.execute("SELECT bytes FROM total").fetchone()[0] - self.limit
        oldest = "SELECT key, bytes, model FROM answer WHERE key != ? ORDER BY used LIMIT 1"
        evicted: Counter[str] = Counter()
        while over > 0 and (row := db.execute(oldest, (keep,)).fetchone()) is not None:
            db.execute("DELETE FROM answer WHERE key = ?", (row[0],))
            over -= row[1]
            evicted[row[2]] += 1
        return evicted

    def _drop_stale(self, db: sqlite3.Connection) -> None:
        """Delete what is past its lifetime. Rows are numbered as they came, so that the first young one ends it: the
        time stands behind the text in a row, and to look at every one is to read the whole file.
        """
        oldest = "SELECT rowid, made FROM answer ORDER BY rowid LIMIT 1"
        while self.lifetime is not None and (row := db.execute(oldest).fetchone()) and self._stale(row[1]):
            db.execute("DELETE FROM answer WHERE rowid = ?", (row[0],))

    def _stale(self, made: float) -> bool:
        return self.lifetime is not None and time.time() - made > self.lifetime

    def _read(self, key: str, body: bytes, checksum: bytes) -> Result | None:
        """SQLite keeps no checksum of its pages, so a flipped bit in a text would be read as it is."""
        try:
            if _checksum(key, body) != checksum:
                raise ValueError("its checksum does not match")
            return codec.decode(body)
        except (ValueError, TypeError) as err:
            self._warn("answer", f"A stored answer in {self.path} was dropped: {err}. It will be generated again.")
            return None

    def _attempt(self, work: Callable[[sqlite3.Connection], T], otherwise: T, anyway: bool = False) -> T:
        """What work on the file gives; `otherwise` where it fails, or rests and is not to be used `anyway`."""
        with self._lock:
            for _ in range(2):  # a second time after a damaged file was moved aside
                if time.monotonic() < self._resting_until and not anyway:
                    return otherwise
                try:
                    done = work(self._open(self._patience if anyway else self._wait))
                    self._resting_until = 0.0
                    return done
                except (sqlite3.Error, OSError) as err:
                    if is_busy(err) or not self._mended(err):
                        break
            return otherwise

    def _open(self, wait: float) -> sqlite3.Connection:
        if self._opened_by != os.getpid():  # SQLite forbids a connection to be carried across a fork
            self._connection = None
        if self._connection is None:
            self._inode = inode(self.path)
            self._connection = connect(self.path, wait)
            self._connection.execute(f"PRAGMA busy_timeout = {int(self._wait * 1000)}")
            self._inode, self._opened_by = inode(self.path), os.getpid()
            with contextlib.suppress(sqlite3.OperationalError):  # a read-only file or a busy one: the next insert may
                self._drop_stale(self._connection)
        return self._connection

    def _mended(self, err: Exception) -> bool:
        """Move a damaged file out of the way; leave one that cannot be used now alone for a while."""
        self._drop_connection()
        if is_damage(err):
            foreign = isinstance(err, ForeignFileError)
            try:
                aside = move_aside(self.path, self._inode, "foreign" if foreign else "damaged")
            except OSError as problem:
                err = problem
            else:
                where = f"moved to {aside.name}" if aside else "moved aside"
                said = f"The result cache {self.path} cannot be read ({err}). It was {where}, and a new one begins."
                self._warn("damaged", said)
                return True
        self._resting_until = time.monotonic() + self._pause
        self._warn("unusable", f"The result cache {self.path} cannot be used now ({err}); answers are not kept.")
        return False

    def _drop_connection(self) -> None:
        if self._connection is not None and self._opened_by == os.getpid():
            try:
                self._connection.close()
            except sqlite3.Error as err:
                self._warn("unusable", f"The result cache {self.path} cannot be closed ({err}).")
        self._connection = None


def _checksum(key: str, body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16, key=key.encode()[:64]).digest()
