"""Entries on disk: found again, bounded, shared, and never trusted when damaged."""

import json
import os
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from mlxnb import hardware
from mlxnb.cache import CacheWarning, Ledger, PrefixCache, PrefixDisk, Prefixes, WarnOnce
from mlxnb.cache.disk import Found
from mlxnb.cache.entry_file import ASIDE, Entry
from mlxnb.cache.pressure import threshold
from mlxnb.hardware import human_bytes
from tests.cache.fakes import FakeStates, is_fresh

STATES = FakeStates()


def entry(tokens, namespace="n", whole_only=False):
    return Entry(namespace, tuple(tokens), whole_only, *STATES.arrays(STATES.prefill(tokens)))


@pytest.fixture
def said():
    return []


@pytest.fixture
def disk(tmp_path, said):
    return PrefixDisk(tmp_path / "prefixes", warn=WarnOnce(said.append))


def put(disk, *tokens, **options):
    verdict = disk.put(entry(tokens, **options))
    assert disk.flush()
    return verdict


def entries(disk):
    return sorted(p for p in disk.folder.rglob("*.safetensors"))


def state_of(disk, tokens, namespace="n"):
    found = disk.find(namespace, tokens)
    loaded = found and disk.load(found)
    return found and loaded and STATES.state(*loaded)


def test_another_process_finds_what_was_written(disk):
    put(disk, 1, 2, 3)
    again = PrefixDisk(disk.folder)
    found = again.find("n", (1, 2, 3, 4))
    assert found.length == 3
    assert is_fresh(STATES.state(*again.load(found)), (1, 2, 3))


def test_the_longest_usable_prefix_is_found(disk):
    put(disk, 1, 2, 3, 4, whole_only=True)
    put(disk, 1, 2, 9, 9)
    assert disk.find("n", (1, 2, 3, 4, 5)).length == 4
    assert disk.find("n", (1, 2, 3, 5)).length == 2  # of the entry that can be cut
    assert disk.find("n", (1, 2, 3, 4)).length == 2  # its last token must be left, and it cannot be cut
    assert disk.find("n", (1,)) is None
    assert disk.find("n", (7, 8)) is None


def test_no_namespace_sees_another(disk):
    put(disk, 1, 2, 3)
    assert disk.find("m", (1, 2, 3, 4)) is None


def test_an_entry_moved_into_another_namespace_is_not_used(disk, said):
    put(disk, 1, 2, 3)
    put(disk, 1, 2, 4, namespace="m")
    (here,) = (p for p in entries(disk) if p.parent == disk._place("n"))
    here.rename(disk._place("m") / here.name)
    assert disk.find("m", (1, 2, 3, 4)).length == 2
    assert len(said) == 1


def test_a_longer_entry_replaces_those_that_it_covers(disk):
    put(disk, 1, 2)
    put(disk, 1, 2, 3)
    assert [p.name.split("-")[0] for p in entries(disk)] == ["3"]
    put(disk, 1, 2, 3, 4, whole_only=True)
    assert [p.name.split("-")[0] for p in entries(disk)] == ["3", "4"]


def test_the_least_recently_used_go_first_and_pins_stay(disk):
    rest = (5,) * 2000
    for first in range(4):
        put(disk, first, *rest)
        os.utime(disk._path("n", np.array([first, *rest], ">u4").tobytes()), (first, first))
    disk.limit = int(disk.usage()[1] * 1.1)
    disk.pin("keep", "n", (0, *rest))
    assert disk.load(disk.find("n", (1, *rest, 5)))  # used just now, so 2 is the oldest that may go
    put(disk, 9, *rest)
    left = [first for first in (*range(4), 9) if disk.find("n", (first, *rest, 5))]
    assert left == [0, 1, 3, 9]
    assert disk.evictions == 1


def test_a_smaller_limit_counts_at_once(disk):
    rest = (5,) * 2000
    for first in range(4):
        put(disk, first, *rest)
        os.utime(disk._path("n", np.array([first, *rest], ">u4").tobytes()), (first, first))
    disk.pin("keep", "n", (0, *rest))
    disk.resize(int(disk.usage()[1] * 0.6), None)
    assert [first for first in range(4) if disk.find("n", (first, *rest, 5))] == [0, 3]
    disk.resize(10**9, 50.0)  # seconds, and they were last used in 1970
    assert [first for first in range(4) if disk.find("n", (first, *rest, 5))] == [0]


def test_an_entry_larger_than_the_limit_is_refused(tmp_path):
    verdict = PrefixDisk(tmp_path, limit=100).put(entry(range(50)))
    assert not verdict
    assert "of 100 bytes" in str(verdict)


def test_pins_survive_a_restart_and_clear(disk):
    put(disk, 1, 2)
    put(disk, 3, 4)
    disk.pin("document", "n", (1, 2))
    again = PrefixDisk(disk.folder)
    assert [(pin.name, pin.tokens) for pin in again.pins.all()] == [("document", (1, 2))]
    assert again.clear() == 1
    assert again.holds(again.pins.all()[0])
    assert again.pins.remove("document")
    assert not again.pins.remove("document")
    assert again.clear() == 1


def test_a_damaged_pin_is_none(disk):
    disk.pin("a", "n", (1,))
    for path in disk.pins.folder.iterdir():
        path.write_text("{")
    assert disk.pins.all() == []


ODD = {
    "a number": 7,
    "a list": [],
    "a name that is none": {"name": 3},
    "a namespace that is none": {"namespace": None},
    "a namespace that is no text": {"namespace": "\ud800"},
    "tokens in words": {"tokens": "12"},
    "a token below nought": {"tokens": [1, -1]},
    "a token too large": {"tokens": [1, 2**32]},
    "half a token": {"tokens": [1, 0.5]},
    "true": {"tokens": [1, True]},
    "other tokens": {"tokens": [1, 3]},
    "a file that is none": {"file": ["x"]},
    "another file": {"file": "../../x"},
    "another name": {"name": "b"},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_a_pin_file_with_odd_content_is_no_pin_and_breaks_nothing(disk, odd):
    put(disk, 1, 2)
    disk.pin("a", "n", (1, 2))
    (path,) = disk.pins.folder.iterdir()
    body = json.loads(path.read_text())
    path.write_text(json.dumps({**body, **odd} if isinstance(odd, dict) else odd))
    prefixes = Prefixes(PrefixCache(lambda: 10**9, Ledger()), disk, Ledger())
    assert prefixes.pinned(()) == []
    assert disk.clear() == 1


def test_a_pin_is_read_again_only_once_its_file_has_changed(disk, monkeypatch):
    for name in "ab":
        disk.pin(name, "n", (1, 2))
    read = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text: read.append(text) or loads(text))
    for _ in range(3):
        assert [pin.tokens for pin in disk.pins.all()] == [(1, 2), (1, 2)]
    assert len(read) == 2
    disk.pin("a", "n", (3, 4))
    assert [pin.tokens for pin in disk.pins.all()] == [(3, 4), (1, 2)]
    assert len(read) == 3
    assert disk.pins.remove("b")
    assert [pin.name for pin in disk.pins.all()] == ["a"]
    assert len(read) == 3


def test_only_files_of_the_cache_are_deleted(disk):
    put(disk, 1, 2)
    disk.pin("a", "n", (3, 4))
    place, other = disk._place("n"), disk.folder / "backup"
    other.mkdir()
    foreign = [place / "adapter.safetensors", other / "adapter.safetensors", other / entries(disk)[0].name]
    left, young = [place / "a.part", disk.pins.folder / "a.part"], [place / "b.part", disk.pins.folder / "b.part"]
    for path in (*foreign, *left, *young):
        path.write_bytes(b"x")
    for path in (*foreign, *left):
        os.utime(path, (1, 1))
    assert disk.usage()[0] == 1
    disk.limit = disk.usage()[1] + 700
    assert put(disk, 5, 6)  # makes room
    assert disk.evictions == 1
    left[0].write_bytes(b"x")  # gone with the write
    os.utime(left[0], (1, 1))
    assert disk.clear() == 1
    assert [path for path in (*foreign, *left, *young) if path.exists()] == [*foreign, *young]
    assert len(disk.pins.all()) == 1


def test_a_lifetime_ends_but_for_pins(disk):
    for first in (1, 2, 3):
        put(disk, first, 7)
    disk.pin("keep", "n", (1, 7))
    for path in entries(disk):
        os.utime(path, (1, 1))
    bounded = PrefixDisk(disk.folder, lifetime=3600)
    os.utime(disk._path("n", np.array([3, 7], ">u4").tobytes()))  # used just now
    assert [first for first in (1, 2, 3) if bounded.find("n", (first, 7, 7))] == [1, 3]
    assert len(entries(disk)) == 2
    os.utime(disk._path("n", np.array([3, 7], ">u4").tobytes()), (1, 1))  # it grows old while the process runs
    assert [first for first in (1, 3) if bounded.find("n", (first, 7, 7))] == [1]
    put(bounded, 9, 7)
    assert [first for first in (1, 2, 3, 9) if disk.find("n", (first, 7, 7))] == [1, 9]


@pytest.mark.parametrize("where", ["header", "tokens", "state", "cut"])
def test_a_damaged_file_is_dropped_with_one_warning(disk, said, where):
    for first in (1, 2):
        put(disk, first, 2, 3)
    fresh = PrefixDisk(disk.folder, warn=WarnOnce(said.append))
    if where == "state":
        assert fresh.find("n", (1, 2, 3, 4))  # its header is read, and was right
    for path in entries(disk):
        content = bytearray(path.read_bytes())
        if where == "cut":
            del content[-3:]
        else:
            content[{"header": 40, "tokens": -40, "state": -2}[where]] ^= 4
        path.write_bytes(content)
    for first in (1, 2):
        assert state_of(fresh, (first, 2, 3, 4)) is None
    assert entries(disk) == []
    assert len(said) == 1
    put(fresh, 1, 2, 3)
    assert is_fresh(state_of(fresh, (1, 2, 3, 4)), (1, 2, 3))


def test_a_file_that_another_process_deleted_is_a_miss_without_a_word(disk, said):
    put(disk, 1, 2, 3)
    found = disk.find("n", (1, 2, 3, 4))
    os.unlink(found.path)
    assert disk.load(found) is None
    assert disk.find("n", (1, 2, 3, 4)) is None
    assert said == []


def test_a_file_that_another_process_wrote_anew_is_read_as_it_is_now(disk, said):
    """The same tokens on other hardware give other bits, so the checksums that this process remembers are not its."""
    put(disk, 1, 2, 3)
    assert disk.find("n", (1, 2, 3, 4))
    arrays, meta = STATES.arrays(STATES.prefill((1, 2, 3)))
    arrays["rows"].data[0] ^= 1
    other = PrefixDisk(disk.folder)
    other.put(Entry("n", (1, 2, 3), False, arrays, {**meta, "more": "words" * 9}))
    other.flush()
    loaded, meta = disk.load(disk.find("n", (1, 2, 3, 4)))
    assert (loaded["rows"].data == arrays["rows"].data).all()
    assert "more" in meta
    assert said == []


def test_a_full_disk_loses_only_the_entry_in_flight(disk, said, monkeypatch):
    put(disk, 1, 2, 3)
    with monkeypatch.context() as full:
        full.setattr("mlxnb.cache.entry_file.write_all", _no_space)
        put(disk, 4, 5, 6)
        put(disk, 7, 8, 9)
    assert len(said) == 1
    assert "No space left" in said[0]
    assert not list(disk.folder.rglob("*" + ASIDE))
    put(disk, 4, 5, 6)
    assert [bool(disk.find("n", (first, first + 1, first + 2, 0))) for first in (1, 4, 7)] == [True, True, False]


def _no_space(file, data):
    file.write(data[: len(data) // 2])
    raise OSError(28, "No space left on device")


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE with SIGXFSZ ignored")
def test_a_file_size_limit_of_the_system(tmp_path):
    """The system itself refuses to let the file grow, in the middle of a write."""
    script = """
import resource, signal, sys
from pathlib import Path
from mlxnb.cache import PrefixDisk, WarnOnce
from tests.cache.test_disk import entry
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
said = []
disk = PrefixDisk(Path(sys.argv[1]), warn=WarnOnce(said.append))
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
disk.put(entry(range(1000))); disk.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
disk.put(entry((7, 7, 7))); disk.flush()
print(len(said), disk.find("n", range(1001)), disk.find("n", (7, 7, 7, 7)).length, disk.usage()[0])
"""
    assert _python(script, tmp_path) == "1 None 3 1"


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_a_read_only_folder_is_read_and_not_written(disk, tmp_path):
    """As another user where the tests run as root, whom no permission stops."""
    put(disk, 1, 2, 3)
    put(disk, 5, 6, 7)
    for path in disk.folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    damaged = disk.find("n", (5, 6, 7, 8)).path
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    for path in (disk.folder, disk._place("n")):
        path.chmod(stat.S_IRUSR | stat.S_IXUSR | 0o055)
    for parent in tmp_path.parents:
        if parent.name.startswith(("pytest-", "popen-")):  # of the run, and of one process where it takes several
            parent.chmod(parent.stat().st_mode | 0o055)
    tmp_path.chmod(0o755)
    script = """
import os, sys
from pathlib import Path
from mlxnb import hardware
from mlxnb.cache import PrefixDisk, WarnOnce
from tests.cache.test_disk import entry
hardware.memory_free()  # imports what the other user may not read
if os.getuid() == 0: os.setuid(65534)
said = []
disk = PrefixDisk(Path(sys.argv[1]) / "prefixes", warn=WarnOnce(said.append))
print(disk.load(disk.find("n", (1, 2, 3, 4))) is not None, end=" ")
print(disk.load(disk.find("n", (5, 6, 7, 8))), disk.find("n", (5, 6, 7, 8)), end=" ")
disk.put(entry((9, 9))); disk.flush()
disk.put(entry((8, 9))); disk.flush()
print(len(said), bool(disk.pin("a", "n", (1, 2, 3))), disk.clear())
"""
    try:
        assert _python(script, tmp_path) == "True None None 2 False 0"
    finally:
        for path in (disk.folder, disk._place("n")):
            path.chmod(0o700)


def test_unfinished_files_are_cleared_away_once_they_are_nobodys(disk):
    put(disk, 1, 2)
    young, old = (disk._place("n") / f"{name}{ASIDE}" for name in ("young", "old"))
    young.write_bytes(b"x")
    old.write_bytes(b"x")
    os.utime(old, (1, 1))
    put(disk, 3, 4)
    assert young.exists()
    assert not old.exists()


def test_too_much_waiting_is_refused_and_flush_waits(disk, monkeypatch):
    small = PrefixDisk(disk.folder, pending=entry(range(100)).nbytes)
    gate = threading.Event()
    write = small._write
    monkeypatch.setattr(small, "_write", lambda entry: (gate.wait(), write(entry)))
    assert small.put(entry(range(100)))
    assert "too much waits" in str(small.put(entry(range(100, 200))))
    assert not small.flush(timeout=0.01)
    gate.set()
    assert small.flush()
    assert small.usage()[0] == 1


@pytest.fixture
def held_up(disk, monkeypatch):
    """The disk with the entry of 1, 2 just being written, which ends when the gate is opened."""
    begun, gate, write = threading.Event(), threading.Event(), disk._write
    monkeypatch.setattr(disk, "_write", lambda entry: (begun.set(), gate.wait(), write(entry)))
    disk.put(entry((1, 2)))
    begun.wait()
    yield disk, gate
    gate.set()
    disk.flush()


def test_what_waits_is_dropped_and_may_be_put_again(held_up):
    disk, gate = held_up
    sizes = [entry(tokens).nbytes for tokens in ((1, 2), (3, 4), (5, 6))]
    assert all(disk.put(entry(tokens)) for tokens in ((3, 4), (5, 6)))
    assert disk.waiting == sum(sizes)
    assert disk.drop_waiting() == (2, sum(sizes[1:]))
    assert disk.waiting == sizes[0]
    assert disk.put(entry((5, 6)))
    gate.set()
    assert disk.flush()
    assert [bool(disk.find("n", tokens)) for tokens in ((1, 2, 0), (3, 4, 0), (5, 6, 0))] == [True, False, True]
    assert disk.waiting == 0


def test_where_memory_is_short_nothing_more_waits(held_up, monkeypatch):
    disk, _ = held_up
    one = entry((3, 4))
    monkeypatch.setattr(hardware, "memory_total", lambda: 10**12)
    monkeypatch.setattr(hardware, "memory_free", lambda: threshold() + one.nbytes)
    assert disk.put(one)
    monkeypatch.setattr(hardware, "memory_free", lambda: threshold() + one.nbytes - 1)
    assert "memory has room for" in str(disk.takes(one.nbytes))
    assert not disk.put(entry((5, 6)))


def test_clearing_waits_for_the_entry_in_flight_only(held_up):
    disk, gate = held_up
    disk.pin("kept", "n", (5, 6))
    for tokens in ((3, 4), (5, 6)):
        disk.put(entry(tokens))
    went = []
    clearing = threading.Thread(target=lambda: went.append(disk.clear()))
    clearing.start()
    while disk.waiting > entry((1, 2)).nbytes + entry((5, 6)).nbytes:
        time.sleep(0.001)
    assert went == []
    gate.set()
    clearing.join()
    assert went == [1]
    assert disk.flush()
    assert [bool(disk.find("n", tokens)) for tokens in ((1, 2, 0), (3, 4, 0), (5, 6, 0))] == [False, False, True]


def test_closing_says_what_it_waits_for_and_what_is_lost(held_up, said, monkeypatch):
    disk, _ = held_up
    disk.put(entry((3, 4)))
    size = human_bytes(disk.waiting)
    monkeypatch.setattr("mlxnb.cache.disk.PATIENCE", 0.01)
    disk.close(timeout=0.02)
    assert said == [
        f"Closing waits up to 0 s for 2 KV states of {size} to be written to {disk.folder}.",
        f"{disk.folder} is too slow: 2 KV states of {size} given up, whose prompts are computed again.",
    ]
    assert disk.waiting == entry((1, 2)).nbytes


def test_closing_is_silent_where_all_is_written(disk, said):
    disk.put(entry((1, 2)))
    disk.close()
    assert disk.find("n", (1, 2, 3))
    assert said == []


def test_what_both_threads_change_is_changed_under_the_lock(disk, said):
    """What is passed over is changed where a file is written, found and read, on three different ways."""

    class Guarded(set):
        changes = 0

        def add(self, path):
            assert disk._lock._is_owned()
            Guarded.changes += 1
            super().add(path)

        def discard(self, path):
            assert disk._lock._is_owned()
            Guarded.changes += 1
            super().discard(path)

    disk._passed_over = Guarded()
    put(disk, 1, 2, 3)  # discards on the writer's thread
    found = disk.find("n", (1, 2, 3, 4))
    found.path.unlink()
    found.path.mkdir()  # it cannot be read, nor deleted
    assert disk.load(found) is None
    disk.drop(found, "no state")
    disk.drop(Found(disk.folder / "foreign.safetensors", found.head, 1), "foreign")
    assert Guarded.changes == 4
    assert len(disk._passed_over) == 2


def test_the_warning_is_a_warning(tmp_path):
    (tmp_path / "file").write_text("in the way")
    disk = PrefixDisk(tmp_path / "file")
    with pytest.warns(CacheWarning, match="prompts are not kept"):
        assert _put_twice(disk)


def _put_twice(disk):
    return all((disk.put(entry((1, 2))), disk.put(entry((3, 4))), disk.flush()))


def test_a_folder_that_has_not_changed_is_not_listed_again(disk, monkeypatch):
    put(disk, 1, 2, 3)
    os.utime(disk._place("n"), (1, 1))
    assert disk.find("n", (1, 2, 3, 4))
    with monkeypatch.context() as strict:
        strict.setattr("os.listdir", pytest.fail)
        assert disk.find("n", (1, 2, 3, 4))
    PrefixDisk(disk.folder).put(entry((1, 2, 3, 4, 5)))
    put(disk, 9, 9)
    assert disk.find("n", (1, 2, 3, 4, 5, 6))
    entries(disk)[0].unlink()
    os.utime(disk._place("n"), (2, 2))
    disk.find("n", (1, 2))
    assert len(disk._heads) == len(entries(disk))


def test_two_changes_at_the_same_time_of_a_coarse_clock_are_both_seen(disk):
    put(disk, 1, 2, 3)
    now = time.time_ns()
    os.utime(disk._place("n"), ns=(now, now))
    assert disk.find("n", (7, 8, 9, 10)) is None
    put(PrefixDisk(disk.folder), 7, 8, 9)
    os.utime(disk._place("n"), ns=(now, now))
    assert disk.find("n", (7, 8, 9, 10)).length == 3


def test_two_processes_share_a_folder(tmp_path):
    """Both write, evict, read and delete at once; neither ever sees a damaged entry."""
    script = """
import random, sys
from pathlib import Path
from mlxnb.cache import PrefixDisk, WarnOnce
from tests.cache.fakes import FakeStates, is_fresh
from tests.cache.test_disk import entry, state_of
said, random = [], random.Random(int(sys.argv[2]))
disk = PrefixDisk(Path(sys.argv[1]), limit=60_000, warn=WarnOnce(said.append))
hits = 0
for turn in range(150):
    tokens = [random.randrange(3) for _ in range(random.randrange(1, 6))]
    disk.put(entry(tokens)); disk.flush()
    asked = [random.randrange(3) for _ in range(6)]
    found = disk.find("n", asked)
    loaded = found and disk.load(found)
    if loaded:
        state = FakeStates().trim(FakeStates().state(*loaded), found.length) if found.length < found.head.length else \
            FakeStates().state(*loaded)
        assert is_fresh(state, asked[:found.length]); hits += 1
    if turn % 50 == 0: disk.clear()
print(len(said), hits > 20, *said)
"""
    running = [_start(script, tmp_path, str(seed)) for seed in range(3)]
    for process in running:
        out, err = process.communicate()
        assert (out.strip(), process.returncode) == ("0 True", 0), out + err


def _start(script, *args):
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _python(script, *args):
    process = _start(script, *args)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out.strip()
