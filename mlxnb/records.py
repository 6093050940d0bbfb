"""What was measured on this machine, kept on disk: one small JSON file a record."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

FORMAT = 1
Record = dict[str, Any]


class Records:
    """The records in `folder`, which several processes may share: a record is a file, written aside and renamed.

    A damaged record is moved aside with a warning, over one that was before; one of another format is left out of
    account and written over; a folder that cannot be used costs the memory, never the work. `what` names in the
    warnings what is kept.
    """

    def __init__(self, folder: Path, what: str = "Measurements") -> None:
        self.folder, self._what = folder, what
        self._records: dict[str, Record | None] = {}
        self._warned = False

    def get(self, key: str) -> Record | None:
        """The record of `key`, or None."""
        if key not in self._records:
            self._records[key] = self._read(key)
        return self._records[key]

    def put(self, key: str, record: Record) -> None:
        """Remember `record`, on disk too where that can be."""
        self._records[key] = record
        try:
            self._write(self._file(key), {"format": FORMAT, "key": key, "record": record})
        except OSError as err:
            self._unusable(err)

    def _file(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"

    def _read(self, key: str) -> Record | None:
        file = self._file(key)
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except OSError as err:
            self._unusable(err)
            return None
        except (ValueError, RecursionError):  # not UTF-8, not JSON, or nested without end
            self._aside(file)
            return None
        if isinstance(content, dict) and content.get("format") not in (None, FORMAT):
            return None
        if not isinstance(content, dict) or content.get("key") != key or not isinstance(content.get("record"), dict):
            self._aside(file)
            return None
        return dict(content["record"])

    def _aside(self, file: Path) -> None:
        moved = file.with_name(f"{file.name}.damaged")
        try:
            os.replace(file, moved)
        except OSError as err:
            self._unusable(err)
            return
        self._warn(f"{file} is damaged: moved to {moved.name}, and measured again.")

    def _write(self, file: Path, content: Record) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=".record-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as opened:
                json.dump(content, opened, indent=1, sort_keys=True)
                opened.flush()
                os.fsync(opened.fileno())
            os.replace(name, file)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

    def _unusable(self, err: OSError) -> None:
        self._warn(f"{self._what} cannot be kept in {self.folder}: {err.strerror}. They hold for now only.")

    def _warn(self, message: str) -> None:
        if not self._warned:
            warnings.warn(message, RuntimeWarning, stacklevel=4)
        self._warned = True
