"""Opens the result cache's SQLite file: makes its tables, and tells a damaged or foreign file from a busy one."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from .private import make_folder

APPLICATION = 0x6D6C786E  # "mlxn"; SQLite keeps it in the file's header
VERSION = 1
KEPT_ASIDE = 2  # damaged files
BESIDE = ("-wal", "-shm")  # what SQLite adds to a file's name for those beside it

# `used` counts up at every use, so that the order of use survives a clock that is set back.
SCHEMA = f"""
CREATE TABLE answer (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, body BLOB NOT NULL, checksum BLOB NOT NULL,
    bytes INTEGER NOT NULL, made REAL NOT NULL, used INTEGER NOT NULL
);
CREATE INDEX by_use ON answer (used);
CREATE TABLE total (bytes INTEGER NOT NULL);
INSERT INTO total VALUES (0);
CREATE TRIGGER added AFTER INSERT ON answer BEGIN UPDATE total SET bytes = bytes + new.bytes; END;
CREATE TRIGGER removed AFTER DELETE ON answer BEGIN UPDATE total SET bytes = bytes - old.bytes; END;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
"""


class ForeignFileError(sqlite3.DatabaseError):
    """The file is a SQLite database of another program."""


def connect(path: Path, wait: float) -> sqlite3.Connection:
    """Open the cache's file, making it where there is none. `wait` in seconds is how long a lock is waited for.

    Raises:
        OSError, sqlite3.OperationalError: it cannot be used now: read-only, full, locked.
        sqlite3.DatabaseError: it is damaged (see `is_damage`).
    """
    make_folder(path.parent)
    _keep_private(path)
    connection = sqlite3.connect(path, timeout=wait, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # A crash of the machine may lose the last answers, never the file: in WAL mode NORMAL keeps it whole.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA journal_size_limit = 4000000")
        # What is deleted is overwritten: prompts and answers may be private.
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("BEGIN IMMEDIATE")
        _make_tables(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_tables(connection: sqlite3.Connection) -> None:
    """Inside a transaction, so that two processes do not both make them."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if (application, version) == (APPLICATION, VERSION):
        connection.execute("SELECT bytes FROM total").fetchone()
    elif tables == 0 and application == 0 and version == 0:
        for statement in _statements(SCHEMA):
            connection.execute(statement)
    elif application == APPLICATION:
        raise sqlite3.DatabaseError(f"it has the format {version}, and this mlxnb reads {VERSION}")
    else:
        raise ForeignFileError("it belongs to another program")


def _statements(script: str) -> list[str]:
    # executescript would commit the transaction first.
    statements, text = [], ""
    for line in script.splitlines():
        text += line + "\n"
        if sqlite3.complete_statement(text):
            statements.append(text)
            text = ""
    return statements


def _keep_private(path: Path) -> None:
    """Make the file for its owner alone, before SQLite does; its -wal and -shm files get the same mode.

    A file that is there is not opened: closing it again would take away the locks of this process's connections to it,
    and another process that thinks itself alone deletes the write-ahead log (sqlite.org/howtocorrupt.html, 2.2).
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def wipe(connection: sqlite3.Connection) -> bool:
    """Leave nothing of deleted rows in the write-ahead log, and give the room that they took back; False where another
    process that just uses the file does not let the log be emptied. It is waited for as long as `connect` was told.
    """
    with contextlib.suppress(sqlite3.OperationalError):  # what is deleted is overwritten already: this is for the room
        connection.execute("VACUUM")
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError:
        return False
    return not busy


@contextlib.contextmanager
def waiting(connection: sqlite3.Connection, seconds: float, otherwise: float) -> Iterator[None]:
    """Wait so long for a lock within the block, and `otherwise` seconds after it."""
    connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(otherwise * 1000)}")


def is_busy(err: Exception) -> bool:
    """Whether another process is using the file, which passes."""
    return isinstance(err, sqlite3.OperationalError) and ("locked" in str(err) or "busy" in str(err))


def is_damage(err: Exception) -> bool:
    """Whether the file itself is at fault. sqlite3 raises OperationalError, a subclass, for all that may pass."""
    if isinstance(err, sqlite3.OperationalError):
        return str(err).startswith(("no such table", "no such column"))
    return isinstance(err, sqlite3.DatabaseError)


def move_aside(path: Path, file_number: int | None, why: str = "damaged") -> Path | None:
    """Rename a file that cannot be used, and what SQLite keeps beside it, to NAME.WHY-TIMESTAMP; None where it is gone.

    `file_number` is that of the file found so: another process may have put a new one in its place by now. Of the
    damaged ones the two newest are kept, for whoever wants to look into them, and every "foreign" one.

    Raises:
        OSError: it cannot be renamed.
    """
    number = inode(path)
    if number is None or number != file_number:
        return None
    aside = path.with_name(f"{path.name}.{why}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09}")
    path.rename(aside)
    for suffix in BESIDE:
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + suffix))
    drop_damaged(path, keep=KEPT_ASIDE)
    return aside


def drop_damaged(path: Path, keep: int) -> None:
    """Delete the damaged files that were moved aside from `path`, but for the newest `keep`."""
    aside = sorted(path.parent.glob(f"{path.name}.damaged-*"))  # by time
    names = [file.name for file in aside if not file.name.endswith(BESIDE)]
    for file in aside:
        if not any(file.name.startswith(name) for name in names[len(names) - keep :]):
            with contextlib.suppress(OSError):  # another process was quicker, or the folder is read-only
                file.unlink()


def inode(path: Path) -> int | None:
    """The file's number on its disk, or None where there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return None
