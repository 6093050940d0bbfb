"""kill -9 at every step of a write: what was there stays, what was being written is whole or absent, work goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from mlxnb.cache import PrefixDisk, WarnOnce
from mlxnb.cache.entry_file import ASIDE
from tests.cache.fakes import FakeStates, is_fresh
from tests.cache.test_disk import entry, put

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")

# Calls of the system on the way of a write, and at which of them, before or after, the process dies.
STEPS = [
    ("mkdir", 0), ("mkdir", 1), ("open", 0), ("open", 1), ("write", 0), ("write", 1), ("write", 2), ("write", 3),
    ("write", 4), ("write", 5), ("write", 6), ("write", 7), ("fsync", 0), ("fsync", 1), ("replace", 0), ("replace", 1),
    ("fsync", 2), ("fsync", 3), ("unlink", 0), ("unlink", 1),
]  # fmt: skip

SCRIPT = """
import os, signal, sys
from pathlib import Path
from mlxnb.cache import PrefixDisk, entry_file, writer
from tests.cache.test_disk import entry

folder, call, place = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
count = 0

def die(): os.kill(os.getpid(), signal.SIGKILL)

def deadly(real, half=None):
    def wrapped(*args, **options):
        global count
        if count == place: half(*args) if half else None; die()
        value = real(*args, **options)
        if count + 1 == place: die()
        count += 2
        return value
    return wrapped

def half_of_it(file, data): file.write(data[: len(data) // 2])

disk = PrefixDisk(folder)
if call == "write": entry_file.write_all = deadly(entry_file.write_all, half_of_it)
elif call == "unlink": Path.unlink = deadly(Path.unlink)
elif call == "mkdir": Path.mkdir = deadly(Path.mkdir)
else: setattr(os, call, deadly(getattr(os, call)))
disk.put(entry((1, 2, 3, 4, 5)))
disk.flush()
print("lived")
"""


@pytest.mark.parametrize(("call", "place"), STEPS)
def test_a_kill_loses_at_most_the_entry_in_flight(tmp_path, call, place):
    said = []
    disk = PrefixDisk(tmp_path, warn=WarnOnce(said.append))
    put(disk, 7, 8, 9)
    put(disk, 1, 2, 3)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), call, str(place)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stdout + run.stderr

    again, states = PrefixDisk(tmp_path, warn=WarnOnce(said.append)), FakeStates()
    for tokens in ((7, 8, 9), (1, 2, 3)):
        found = again.find("n", (*tokens, 4, 5, 6))
        assert found.length >= 3
        assert is_fresh(states.state(*again.load(found)), (*tokens, 4, 5)[: found.length])
    put(again, 1, 2, 3, 4, 5)
    assert again.find("n", (1, 2, 3, 4, 5, 6)).length == 5
    assert said == []
    assert len(list(tmp_path.rglob("*" + ASIDE))) <= 1


def test_the_steps_are_all_there_are():
    """Past the last step of each call the write comes to its end, so no step is missing above."""
    last = {}
    for call, place in STEPS:
        last[call] = max(place, last.get(call, 0))
    assert last == {"mkdir": 1, "open": 1, "write": 7, "fsync": 3, "replace": 1, "unlink": 1}
    assert len(entry((1, 2)).arrays) == 2  # with the header and the token ids four writes, each with a before and after


@pytest.mark.parametrize(("call", "place"), [("write", 8), ("fsync", 4), ("replace", 2), ("unlink", 2)])
def test_past_the_last_step_it_lives(tmp_path, call, place):
    put(PrefixDisk(tmp_path), 1, 2, 3)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), call, str(place)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "lived", run.stderr
