"""The prefix cache across restarts: one file an entry, in a folder that several processes share.

The folder is the index: each file says in its header whose state it holds, for which tokens. What a process remembers
of the headers can be lost at any time. A file's time of change is the time of its last use.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

from ..decision import Accepted, Decision, Rejected
from ..hardware import human_bytes
from .disk_labels import DiskLabels
from .disk_pins import DiskPin, DiskPins
from .entry_file import ASIDE, SUFFIX, DamagedEntryError, Entry, Head, read_arrays, read_head, write
from .pressure import may_wait
from .private import make_folder
from .sorted_keys import SortedKeys
from .states import HostArray, key_of, length_of
from .warn import WarnOnce
from .writer import Writer

LIMIT = 4_000_000_000
PENDING = 1_000_000_000
PATIENCE = 1.0  # seconds that closing waits without a word
CLOSING = 10.0  # seconds that it waits in all
SUBJECT = "prefix cache on disk"
FULL = "too much waits to be written already"
OURS = re.compile(r"\d+-[0-9a-f]{32}" + re.escape(SUFFIX))
PLACE = re.compile(r"[0-9a-f]{16}")  # the folder of a namespace
SETTLED = 2_000_000_000  # nanoseconds
LEFT_BEHIND = 600  # seconds without a write after which an unfinished file is nobody's


@dataclass(frozen=True, slots=True)
class Found:
    """An entry that shares its first `length` tokens with what was asked for, all of them usable."""

    path: Path
    head: Head
    length: int


class PrefixDisk:
    """Every method may be called from any thread, and none raises for what is wrong with the disk: it warns once.

    limit: bytes of all files together; the least recently used go first, pins never. pending: bytes that may wait to be
    written, fewer where memory is short; an entry that is larger may wait alone. lifetime: seconds without use after
    which an entry counts no more, but for pins; None is for ever.
    """

    def __init__(
        self,
        folder: Path,
        limit: int = LIMIT,
        warn: WarnOnce | None = None,
        pending: int = PENDING,
        lifetime: float | None = None,
    ) -> None:
        self.folder, self.limit, self.lifetime = folder, limit, lifetime
        self.pins = DiskPins(folder / "pins", lambda namespace, tokens: _file_name(namespace, key_of(tokens)))
        self.labels = DiskLabels()
        self.evictions = 0
        self._warn = warn or WarnOnce()
        self._pending = pending
        self._writer = Writer("mlxnb-prefix-disk", pending)
        self._lock = RLock()
        self._heads: dict[Path, Head] = {}
        self._keys: dict[Path, SortedKeys] = {}
        self._looked: dict[Path, int] = {}  # when a folder had changed last, as of the last look
        self._passed_over: set[Path] = set()  # not to be used, and could not be deleted
        self._expired = lifetime is None  # whether what was too old at the first look is gone

    def find(self, namespace: str, tokens: Sequence[int]) -> Found | None:
        """The entry with the longest prefix of `tokens` that can be used, the last token always left to feed."""
        key, place = key_of(tokens), self._place(namespace)
        with self._lock:
            self._drop_expired()
            self._look_again(namespace, place)
            for common, found in self._keys.get(place, SortedKeys()).nearest(key):
                length = min(common, len(tokens) - 1)
                path = self._path(namespace, found)
                head = self._heads[path]
                if length and (length == head.length or not head.whole_only) and not self._too_old(path):
                    return Found(path, head, length)
        return None

    def load(self, found: Found) -> tuple[dict[str, HostArray], dict[str, str]] | None:
        """What KVStates.arrays gave for the entry, every byte checked; None where it is gone or damaged."""
        head = found.head
        try:
            try:
                arrays = read_arrays(found.path, head)
            except DamagedEntryError:
                # Another process may have put a new file of the same tokens in its place meanwhile.
                head = self._learn_anew(found)
                arrays = read_arrays(found.path, head)
        except DamagedEntryError as err:
            self.drop(found, str(err))
            return None
        except OSError as err:
            self._forget(found.path)
            self._unreadable(found.path, err)
            return None
        with contextlib.suppress(OSError):  # in a read-only folder the order of use stays as it is
            os.utime(found.path)
        return arrays, dict(head.meta)

    def drop(self, found: Found, reason: str) -> None:
        """Delete an entry that cannot be used, and say why."""
        self._damaged(found.path, reason)

    def takes(self, size: int) -> Decision:
        """Whether an entry of so many bytes would be written now; asked before its arrays are made."""
        if size > self.limit:
            return Rejected(SUBJECT, f"the state takes {human_bytes(size)} of {human_bytes(self.limit)}")
        left, held = self._writer.held
        if left and held + size > self._pending:
            return Rejected(SUBJECT, FULL)
        if held + size > (room := may_wait(held)):
            said = f"{human_bytes(held + size)} would wait to be written, and memory has room for {human_bytes(room)}"
            return Rejected(SUBJECT, said)
        return Accepted(SUBJECT, f"room for {human_bytes(size)}")

    def put(self, entry: Entry, taken: Decision | None = None) -> Decision:
        """Write an entry in the background; `taken` is what `takes` said of it, where it was asked before. Its arrays
        must not change any more.
        """
        verdict, name = taken or self.takes(entry.nbytes), _file_name(entry.namespace, key_of(entry.tokens))
        if not verdict:
            return verdict
        if not self._writer.submit(entry.nbytes, lambda: self._write(entry), name):
            return Rejected(SUBJECT, FULL)
        return Accepted(SUBJECT, f"{human_bytes(entry.nbytes)} on their way")

    @property
    def waiting(self) -> int:
        """Bytes in memory that are not written yet."""
        return self._writer.held[1]

    def drop_waiting(self) -> tuple[int, int]:
        """Forget what waits to be written, but for what is being written now; how many entries, and their bytes. Each
        may be put again.
        """
        return self._writer.drop()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything that was put before is written, at most `timeout` seconds; whether it is."""
        return self._writer.flush(timeout)

    def close(self, timeout: float = CLOSING) -> None:
        """Wait until everything is written, at most `timeout` seconds, and give up the rest; a long wait is told."""
        if self.flush(min(PATIENCE, timeout)):
            return
        late = states_of(*self._writer.held)
        self._warn("closing", f"Closing waits up to {timeout:.0f} s for {late} to be written to {self.folder}.")
        if not self.flush(timeout - PATIENCE):
            late = states_of(*self._writer.held)
            self._writer.drop()
            self._warn("closed", f"{self.folder} is too slow: {late} given up, whose prompts are computed again.")

    def clear(self) -> int:
        """Delete every entry that is not pinned, and forget those that wait to be written; how many were there."""
        kept = self.pins.files()
        self._writer.drop(keep=kept)
        self._writer.pause()
        files, now = list(self._files()), time.time()
        for path, _, changed in files:
            # A younger one may be another process's, which is just writing it.
            if path.name.endswith(ASIDE) and now - changed > LEFT_BEHIND:
                self._delete(path)
        self.pins.drop_unfinished(LEFT_BEHIND)
        return sum(self._delete(path) for path, _, _ in files if path.suffix == SUFFIX and path.name not in kept)

    def resize(self, limit: int, lifetime: float | None) -> None:
        """Another limit and another lifetime from now on; what is over them goes at once, but for pins."""
        self.limit, self.lifetime = limit, lifetime
        self._make_room()

    def usage(self) -> tuple[int, int]:
        """Entries and bytes, of all namespaces."""
        counted = self.usage_by_model().values()
        return sum(entries for entries, _ in counted), sum(size for _, size in counted)

    def usage_by_model(self) -> dict[str, tuple[int, int]]:
        """Entries and bytes, by the name that `labels` has for their model; of those without one under ""."""
        counted: dict[str, tuple[int, int]] = {}
        for path, size, _ in self._files():
            if path.suffix == SUFFIX:
                model = self.labels.of(path.parent).model
                entries, held = counted.get(model, (0, 0))
                counted[model] = entries + 1, held + size
        return counted

    def label(self, namespace: str, model: str, prefill_rate: float | None = None) -> None:
        """Let what is kept for a namespace be shown as `model`, whose last prefill was of so many tokens a second, by
        later processes too.
        """
        self.labels.add(self._place(namespace), model, prefill_rate)

    def model_of(self, namespace: str) -> str:
        """The name that was given to `label`, by any process; the empty string where there is none."""
        return self.labels.of(self._place(namespace)).model

    def prefill_rate_of(self, namespace: str) -> float | None:
        """Tokens a second, as `label` was told last, by any process."""
        return self.labels.of(self._place(namespace)).prefill_rate

    def holds(self, pin: DiskPin) -> bool:
        """Whether there is a file of exactly a pin's tokens."""
        return (self._place(pin.namespace) / pin.file).exists()

    def pin(self, name: str, namespace: str, tokens: Sequence[int]) -> Decision:
        """Keep the entry of exactly these tokens, now or once it is written."""
        try:
            self.pins.add(name, namespace, tokens)
        except OSError as err:
            return Rejected(name, f"{self.pins.folder} cannot be written ({err.strerror})")
        return Accepted(name, "kept on disk")

    # Files.

    def _place(self, namespace: str) -> Path:
        return self.folder / hashlib.blake2b(namespace.encode(), digest_size=8).hexdigest()

    def _path(self, namespace: str, key: bytes) -> Path:
        return self._place(namespace) / _file_name(namespace, key)

    def _files(self) -> Iterator[tuple[Path, int, float]]:
        """(path, bytes, last use) of every entry and unfinished file, in no order; nothing that another put there."""
        with contextlib.suppress(OSError):
            for place in list(os.scandir(self.folder)):
                if PLACE.fullmatch(place.name) and place.is_dir(follow_symlinks=False):
                    yield from _files_in(place.path)

    def _drop_expired(self) -> None:
        """Once a process: an entry that grows too old later is not found, and goes with the next that is written."""
        if self._expired:
            return
        self._expired, pinned, now = True, self.pins.files(), time.time()
        for path, _, used in self._files():
            if path.suffix == SUFFIX and path.name not in pinned and self._past(now - used):
                self._delete(path)

    def _past(self, age: float) -> bool:
        return self.lifetime is not None and age > self.lifetime

    def _too_old(self, path: Path) -> bool:
        if self.lifetime is None:
            return False
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:
            return False  # reading it will tell
        return self._past(age) and path.name not in self.pins.files()

    def _look_again(self, namespace: str, place: Path) -> None:
        """Read the headers of files that came since the last look, and forget those that went."""
        try:
            changed = os.stat(place).st_mtime_ns
            if self._looked.get(place) == changed:
                return
            # Two changes may bear the same time where the clock of the disk is coarse.
            self._looked[place] = changed if time.time_ns() - changed > SETTLED else 0
            here = {place / name for name in os.listdir(place) if name.endswith(SUFFIX)}
        except OSError:
            here = set()
            self._looked.pop(place, None)
        keys = self._keys.setdefault(place, SortedKeys())
        for path in [path for path in self._heads if path.parent == place and path not in here]:
            keys.discard(self._heads.pop(path).key)
        self._passed_over -= {path for path in self._passed_over if path.parent == place and path not in here}
        for path in here - set(self._heads) - self._passed_over:
            self._learn(namespace, path)

    def _learn(self, namespace: str, path: Path) -> None:
        try:
            head = read_head(path)
            if path.name != _file_name(head.namespace, head.key) or head.namespace != namespace:
                raise DamagedEntryError("its name and its content do not belong together")
        except DamagedEntryError as err:
            self._damaged(path, str(err))
        except OSError as err:
            self._unreadable(path, err)
        else:
            self._heads[path] = head
            self._keys[path.parent].add(head.key)

    def _learn_anew(self, found: Found) -> Head:
        head = read_head(found.path)
        if (head.namespace, head.key, head.whole_only) != (found.head.namespace, found.head.key, found.head.whole_only):
            raise DamagedEntryError("its name and its content do not belong together")
        with self._lock:
            self._heads[found.path] = head
        return head

    def _unreadable(self, path: Path, err: OSError) -> None:
        if not isinstance(err, FileNotFoundError):  # then another process dropped it, as it may
            self._pass_over(path)
            self._warn("read", f"{path} cannot be read ({err.strerror}); its prompt is computed again.")

    def _damaged(self, path: Path, reason: str) -> None:
        if not OURS.fullmatch(path.name):
            self._pass_over(path)
            self._warn("foreign", f"{path} is no file of this cache: it is left where it is, and not used.")
            return
        if not self._delete(path):
            self._pass_over(path)
        self._warn("damaged", f"{path} was dropped: {reason}. Its prompt is computed again.")

    def _pass_over(self, path: Path) -> None:
        with self._lock:
            self._passed_over.add(path)

    def _delete(self, path: Path) -> bool:
        self._forget(path)
        try:
            path.unlink()
        except FileNotFoundError:  # another process was quicker
            return True
        except OSError:
            return False
        return True

    def _forget(self, path: Path) -> None:
        with self._lock:
            head = self._heads.pop(path, None)
            if head is not None:
                self._keys[path.parent].discard(head.key)

    # On the writer's thread.

    def _write(self, entry: Entry) -> None:
        path = self._path(entry.namespace, key_of(entry.tokens))
        try:
            make_folder(path.parent)
            self._make_room(entry.nbytes, keep=path)
            write(entry, path)
        except OSError as err:
            said = f"{self.folder} cannot be written ({err.strerror}); prompts are not kept across restarts."
            self._warn("write", said)
        except (ValueError, TypeError, OverflowError) as err:  # a backend's arrays that contradict themselves
            self._warn("write", f"A state could not be written ({err}).")
        else:
            with self._lock:
                self._passed_over.discard(path)
            if not entry.whole_only:
                self._drop_prefixes(entry)

    def _make_room(self, size: int = 0, keep: Path | None = None) -> None:
        pinned, now = self.pins.files(), time.time()
        files = sorted(self._files(), key=lambda file: file[2])
        total = sum(size for _, size, _ in files)
        for path, freed, used in files:
            abandoned = path.name.endswith(ASIDE) and now - used > LEFT_BEHIND
            evictable = path.suffix == SUFFIX and path.name not in pinned and path != keep
            if abandoned or (evictable and (total + size > self.limit or self._past(now - used))):
                total -= freed
                self.evictions += self._delete(path) and evictable

    def _drop_prefixes(self, entry: Entry) -> None:
        """A shorter entry is needless now that the longer one can be cut down to it."""
        place, pinned = self._place(entry.namespace), self.pins.files()
        with self._lock:
            self._look_again(entry.namespace, place)
            for key in list(self._keys[place].prefixes_of(key_of(entry.tokens))):
                path = self._path(entry.namespace, key)
                if path.name not in pinned:
                    self._delete(path)


def states_of(number: int, size: int) -> str:
    """So many KV states and their bytes, in words."""
    return f"{number} KV state{'' if number == 1 else 's'} of {human_bytes(size)}"


def _file_name(namespace: str, key: bytes) -> str:
    digest = hashlib.blake2b(namespace.encode() + b"\0" + key, digest_size=16).hexdigest()
    return f"{length_of(key)}-{digest}{SUFFIX}"


def _files_in(place: str) -> Iterator[tuple[Path, int, float]]:
    with contextlib.suppress(OSError):  # a folder or file may go while it is looked at
        for file in list(os.scandir(place)):
            with contextlib.suppress(OSError):
                if not OURS.fullmatch(file.name) and not file.name.endswith(ASIDE):
                    continue
                stat = file.stat()
                yield Path(file.path), stat.st_size, stat.st_mtime
