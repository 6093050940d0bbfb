"""The result cache: what is put in comes out, within its bounds, whatever happens to its file."""

import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from mlxnb.cache import Ledger, ResultCache, Tally, Usage, WarnOnce
from mlxnb.decision import Rejected
from tests.cache import strategies
from tests.cache.strategies import result


@pytest.fixture
def said():
    return []


@pytest.fixture
def make(tmp_path, said):
    def made(**options):
        return ResultCache(tmp_path / "cache" / "results.sqlite", warn=WarnOnce(said.append), **options)

    return made


@pytest.fixture
def cache(make):
    made = make()
    yield made
    made.close()


@given(answer=strategies.results)
def test_what_is_put_in_comes_out(tmp_path_factory, answer):
    path = tmp_path_factory.getbasetemp() / "roundtrip.sqlite"
    cache = ResultCache(path, warn=WarnOnce(pytest.fail))
    assert cache.put("k", answer)
    assert cache.get("k") == answer
    cache.close()
    assert cache.get("k") == answer


def test_a_new_answer_replaces_the_old(cache):
    cache.put("k", result("one"))
    cache.put("k", result("two"))
    assert cache.get("k").text == "two"
    assert cache.get("other") is None
    assert cache.usage()["m"].entries == 1


def size_of(*answers):
    from mlxnb.cache.codec import encode

    return sum(len(encode(a)) + 1 for a in answers)


def test_the_least_recently_used_goes_first(make):
    answers = [result(str(n)) for n in range(5)]
    stats = Ledger()
    cache = make(limit=size_of(*answers[:4]), stats=stats)
    for n in range(4):
        cache.put(str(n), answers[n])
    assert cache.get("0") == answers[0]
    cache.put("4", answers[4])
    assert [n for n in range(5) if cache.get(str(n))] == [0, 2, 3, 4]
    assert stats.by_model("result") == {"m": Tally(evictions=1)}
    assert sum(use.bytes for use in cache.usage().values()) <= cache.limit


def test_a_smaller_limit_counts_at_once(make):
    stats = Ledger()
    cache = make(limit=10**6, stats=stats)
    cache.resize(10**6, None)  # where there is no file yet, none is made
    assert not cache.path.exists()
    for n in range(5):
        cache.put(str(n), result(str(n)))
    cache.resize(2 * size_of(result("0")), None)
    assert [n for n in range(5) if cache.get(str(n))] == [3, 4]
    assert stats.by_model("result")["m"].evictions == 3
    cache.resize(10**6, -1.0)  # everything is older than that
    assert cache.usage() == {}


def test_one_byte_too_many_costs_one_more(make):
    cache = make(limit=3 * size_of(result("x")))
    for key in "abc":
        cache.put(key, result("x"))
    assert cache.usage()["m"] == Usage(3, cache.limit)
    cache.put("d", result("xx"))
    assert [key for key in "abcd" if cache.get(key)] == ["c", "d"]


class Bounded(RuleBasedStateMachine):
    """Against a dictionary in order of use."""

    def __init__(self):
        super().__init__()
        self.cache = ResultCache(Path(":memory:"), limit=size_of(result()) * 3, warn=WarnOnce(pytest.fail))
        self.cache._open = lambda *_: self.db
        self.db = self.open_in_memory()
        self.kept = {}

    def open_in_memory(self):
        from mlxnb.cache.database import SCHEMA

        db = sqlite3.connect(":memory:", isolation_level=None)
        db.executescript(SCHEMA)
        return db

    @rule(key=st.sampled_from("abcde"), text=st.sampled_from(["x" * n for n in (9, 10, 200, 3000)]))
    def put(self, key, text):
        answer = result(text)
        fits = size_of(answer) + 63 <= self.cache.limit
        assert bool(self.cache.put(key, answer)) == fits
        if not fits:
            return
        self.kept.pop(key, None)
        self.kept[key] = answer
        while sum(size_of(a) for a in self.kept.values()) > self.cache.limit:
            del self.kept[next(iter(self.kept))]

    @rule(key=st.sampled_from("abcde"))
    def get(self, key):
        found = self.cache.get(key)
        assert found == self.kept.get(key)
        if found is not None:
            self.kept[key] = self.kept.pop(key)

    @rule()
    def clear(self):
        assert self.cache.clear() == len(self.kept)
        self.kept = {}

    @rule()
    def usage(self):
        expected = Usage(len(self.kept), sum(size_of(a) for a in self.kept.values()))
        assert self.cache.usage() == ({"m": expected} if self.kept else {})
        assert self.db.execute("SELECT bytes FROM total").fetchone() == (expected.bytes,)


TestBounded = Bounded.TestCase


def test_a_lifetime_ends(make, monkeypatch):
    cache = make(lifetime=60)
    cache.put("k", result())
    assert cache.get("k")
    from mlxnb.cache import results

    now = results.time.time()
    monkeypatch.setattr(results.time, "time", lambda: now + 61)
    assert cache.get("k") is None
    assert cache.usage() == {}


def test_what_is_past_its_lifetime_goes_without_being_asked_for(make, monkeypatch):
    from mlxnb.cache import results

    now = results.time.time()
    monkeypatch.setattr(results.time, "time", lambda: now)
    cache = make(lifetime=60)
    for key in "ab":
        cache.put(key, result())
    now += 40
    cache.put("young", result())
    now += 30
    cache.put("new", result())
    assert cache.usage()["m"].entries == 2
    now += 40
    cache.close()
    assert cache.usage()["m"].entries == 1  # opening it is enough
    assert cache.get("new")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (result(finish_reason="interrupted"), "interrupted"),
        (result("x" * 2000), "of 1.5 kB"),
        (result(tokens=[object()]), "cannot be stored"),
        (result("the key is sesame-opens"), "MY_API_KEY"),
        (replace(result(), provenance=replace(result().provenance, notes=("sesame-opens",))), "MY_API_KEY"),
        (replace(result(), provenance=replace(result().provenance, model="http://me:pw@host/m")), "password"),
    ],
)
def test_what_is_not_stored(make, monkeypatch, answer, reason):
    monkeypatch.setenv("MY_API_KEY", "sesame-opens")
    monkeypatch.setenv("HF_TOKEN", "true")
    cache = make(limit=1500)
    verdict = cache.put("k", answer)
    assert isinstance(verdict, Rejected)
    assert reason in str(verdict)
    assert "sesame" not in str(verdict)
    assert cache.get("k") is None


def test_an_ordinary_answer_with_an_address_is_stored(make, monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "an answer")
    monkeypatch.setenv("HF_TOKEN", "answer")  # too short to be a token, and found in any text
    assert make().put("k", result("an answer: see http://me:pw@host/"))


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_only_its_owner_may_read_it(cache):
    cache.put("k", result())
    for path in (cache.path.parent, *cache.path.parent.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def moved_aside(folder):
    return sorted(p.name for p in folder.iterdir() if re.search(r"\.(damaged|foreign)-[\d-]+$", p.name))


def fill(cache):
    for n in range(200):
        cache.put(str(n), result(str(n) * 50))
    cache.close()


@pytest.mark.parametrize("kind", ["garbage", "cut", "zeros inside", "header", "foreign", "newer", "no tables"])
def test_a_file_that_cannot_be_read_is_moved_aside(make, said, kind):
    first = make()
    fill(first)
    path, content = first.path, bytearray(first.path.read_bytes())
    if kind == "garbage":
        path.write_bytes(b"This is no database. " * 1000)
    elif kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "zeros inside":
        content[4096:40960] = bytes(36864)
        path.write_bytes(content)
    elif kind == "header":
        content[10] ^= 0x40
        path.write_bytes(content)
    else:
        statement = {"foreign": "PRAGMA application_id = 7", "newer": "PRAGMA user_version = 99"}
        db = sqlite3.connect(path)
        db.execute(statement.get(kind, "DROP TABLE answer"))
        db.commit()
        db.close()
    cache = make()
    for n in range(200):
        cache.get(str(n))
    assert cache.put("new", result("new"))
    assert cache.get("new").text == "new"
    assert cache.usage()["m"].entries >= 1
    cache.close()
    assert len(said) == 1, said
    (name,) = moved_aside(path.parent)
    assert name in said[0]


def test_another_programs_database_is_not_touched(make, said):
    cache = make()
    cache.path.parent.mkdir()
    db = sqlite3.connect(cache.path)
    db.execute("CREATE TABLE precious (x)")
    db.execute("INSERT INTO precious VALUES (42)")
    db.commit()
    db.close()
    assert cache.put("k", result())
    cache.clear()
    (name,) = moved_aside(cache.path.parent)
    assert sqlite3.connect(cache.path.parent / name).execute("SELECT x FROM precious").fetchall() == [(42,)]
    assert "another program" in said[0]


def test_of_the_damaged_files_two_are_kept_and_none_once_cleared(make):
    for n in range(4):
        cache = make()
        cache.put("k", result())
        cache.close()
        cache.path.write_bytes(f"no database {n}".encode() * 1000)
        cache.path.with_name(cache.path.name + "-wal").write_bytes(b"log")
        after = make()
        assert after.put("k", result())
        after.close()
    folder = cache.path.parent
    assert [(folder / name).read_bytes()[:13] for name in moved_aside(folder)] == [b"no database 2", b"no database 3"]
    assert len(list(folder.glob("*.damaged-*-wal"))) <= 2
    assert make().clear() == 1
    assert not list(folder.glob("*.damaged-*"))


MARKER = "a word that nobody else writes"


def files_with_marker(folder):
    """Looked for in another process: closing a file of its own would take a process's locks on the database away."""
    script = """
import sys
from pathlib import Path
print(*(path.name for path in Path(sys.argv[1]).iterdir() if sys.argv[2].encode() in path.read_bytes()))
"""
    return _python(script, folder, MARKER).split()


@pytest.mark.parametrize("others", ["none", "idle", "of another process"])
def test_of_cleared_answers_no_text_is_left(make, said, tmp_path, others):
    cache = make(limit=60 * size_of(result(MARKER)))
    for n in range(100):  # some are evicted, some replaced
        cache.put(str(n % 80), result(MARKER))
    folder = cache.path.parent
    (folder / f"{cache.path.name}.damaged-20200101-000000-0").write_text(MARKER)
    assert files_with_marker(folder)
    other = make()
    if others == "idle":
        assert other.get("70")
    elif others == "of another process":
        process = _start(
            "import sys; from mlxnb.cache import ResultCache; from pathlib import Path;"
            "cache = ResultCache(Path(sys.argv[1]) / 'cache' / 'results.sqlite');"
            "print(bool(cache.get('70')), flush=True); input()",
            tmp_path,
            stdin=subprocess.PIPE,
        )
        assert process.stdout.readline() == "True\n"
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert cache.clear() == 59
    assert files_with_marker(folder) == []
    assert sum(path.stat().st_size for path in folder.iterdir()) < size / 2  # and the room is given back
    if others == "of another process":
        process.communicate("\n")
    assert other.get("70") is None
    assert other.put("new", result("new"))
    assert cache.get("new").text == "new"
    assert said == []


def test_a_reader_does_not_hold_up_a_clear_and_its_text_goes_with_it(make, said):
    cache = make(wait=0.01)
    cache.put("k", result(MARKER))
    reader = sqlite3.connect(cache.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM answer").fetchall()
    assert cache.clear() == 1
    assert len(said) == 1
    assert "until that one ends" in said[0]
    assert cache.get("k") is None
    assert cache.put("k", result("new"))
    reader.execute("ROLLBACK")
    reader.close()
    cache.close()
    assert files_with_marker(cache.path.parent) == []


def test_an_evicted_answer_leaves_no_text(make):
    cache = make(limit=2 * size_of(result(MARKER)))
    for n in range(3):
        cache.put(str(n), result(MARKER if n == 0 else "-" * len(MARKER)))
    assert cache.get("0") is None
    cache.close()
    assert files_with_marker(cache.path.parent) == []


def test_no_flipped_bit_changes_an_answer(make, said):
    """In every region of the file: the answer is right or a miss, and storing goes on."""
    first = make()
    fill(first)
    content = first.path.read_bytes()
    expected = {str(n): result(str(n) * 50) for n in range(200)}
    cached = 0
    for place in range(0, len(content), 1997):
        for suffix in ("-wal", "-shm"):
            first.path.with_name(first.path.name + suffix).unlink(missing_ok=True)
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        first.path.write_bytes(flipped)
        cache = make(pause=0)
        for key in map(str, range(0, 200, 7)):
            found = cache.get(key)
            assert found in (None, expected[key])
            cached += found is not None
        assert cache.put("new", result("new")), place
        assert cache.get("new").text == "new"
        cache.close()
    assert cached > 500


def test_a_changed_row_is_dropped_with_one_warning(cache, said):
    for key in "ab":
        cache.put(key, result())
    cache._connection.execute("UPDATE answer SET body = replace(body, 'answer', 'anSwer')")
    assert cache.get("a") is None
    assert cache.get("b") is None
    assert len(said) == 1
    assert cache.usage() == {}


def test_an_answer_under_another_key_is_not_taken(cache, said):
    cache.put("a", result())
    cache._connection.execute("UPDATE answer SET key = 'b'")
    assert cache.get("b") is None
    assert len(said) == 1


def test_a_locked_file_is_done_without(make, said):
    cache = make(wait=0.01, pause=1000, patience=0.01)
    cache.put("k", result())
    other = sqlite3.connect(cache.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert cache.get("k")  # though its use cannot be written down
    assert cache.get("another") is None
    assert not cache.put("k2", result())
    assert said == []
    for told in (1, 2):
        assert cache.clear() == 0
        assert len(said) == told
        assert "could not be cleared" in said[-1]
    other.execute("ROLLBACK")
    other.close()
    assert cache.get("k")
    assert cache.put("k2", result())
    assert cache.clear() == 2
    assert len(said) == 2


def test_a_clear_waits_longer_than_an_answer(make, said):
    cache = make(wait=0.0, patience=600.0)
    cache.put("k", result())
    other = sqlite3.connect(cache.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
    release.start()
    assert cache.clear() == 1
    release.join()
    other.close()
    assert said == []


def test_a_clear_lets_other_processes_write_in_between(cache, monkeypatch):
    for n in range(5):
        cache.put(str(n), result())
    seen = set()
    other = sqlite3.connect(cache.path)
    count = "SELECT count(*) FROM answer"
    monkeypatch.setattr("mlxnb.cache.results.STEP", 2)
    cache._connection.set_trace_callback(lambda _: seen.add(other.execute(count).fetchone()[0]))
    assert cache.clear() == 5
    other.close()
    assert seen == {5, 3, 1, 0}
    assert cache.usage() == {}


def test_a_file_that_rests_is_cleared_all_the_same(make, said, monkeypatch):
    cache = make(pause=1000)
    cache.put("k", result(MARKER))
    cache.close()
    with monkeypatch.context() as broken:
        broken.setattr("mlxnb.cache.results.connect", _out_of_order)
        assert cache.get("k") is None
        assert cache.usage() is None  # not known, which is not nothing
        assert cache.clear() == 0
    assert [("cannot be used" in text, "could not be cleared" in text) for text in said] == [
        (True, False),
        (False, True),
    ]
    assert cache.usage() is None
    assert cache.clear() == 1
    assert cache.put("k", result())  # it can be used again
    cache.close()
    assert files_with_marker(cache.path.parent) == []


def _out_of_order(*args):
    raise sqlite3.OperationalError("disk I/O error")


def test_after_a_failure_the_file_is_left_alone_for_a_while(make, said, monkeypatch):
    cache = make(wait=0.01, pause=1000)
    tried = []

    def fail(*args):
        tried.append(args)
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as broken:
        broken.setattr("mlxnb.cache.results.connect", fail)
        for _ in range(5):
            assert cache.get("k") is None
    assert len(tried) == 1
    assert cache.get("k") is None
    cache._resting_until = 0.0
    assert cache.put("k", result())
    assert len(said) == 1


def test_an_interrupt_in_the_middle_leaves_nothing_half_done(cache, monkeypatch):
    cache.put("k", result())
    insert = cache._insert

    def interrupted(*args):
        insert(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_insert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.put("half", result())
    assert cache.put("next", result())
    assert cache.get("half") is None
    assert cache.get("k")


def test_a_full_disk_is_done_without(make, said):
    cache = make(pause=0)
    cache.put("k", result())
    pages = cache._connection.execute("PRAGMA page_count").fetchone()[0]
    cache._connection.execute(f"PRAGMA max_page_count = {pages}")
    assert not cache.put("large", result("x" * 100_000))
    assert "full" in said[0]
    assert cache.get("k")
    assert cache.put("large", result("x" * 100_000))
    assert len(said) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE with SIGXFSZ ignored")
def test_a_file_size_limit_of_the_system(tmp_path):
    script = """
import resource, signal, sys
from pathlib import Path
from mlxnb.cache import ResultCache, WarnOnce
from tests.cache.strategies import result
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
said = []
cache = ResultCache(Path(sys.argv[1]) / "r.sqlite", warn=WarnOnce(said.append), pause=0)
cache.put("small", result())
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
print(bool(cache.put("large", result("x" * 300_000))), cache.get("small") == result(), len(said), end=" ")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(bool(cache.put("large", result("x" * 300_000))), len(cache.get("large").text), cache.get("small") == result())
"""
    assert _python(script, tmp_path) == "False True 1 True 300000 True"


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_a_read_only_folder_is_done_without(make, tmp_path):
    cache = make()
    cache.put("k", result())
    cache.close()
    for parent in (tmp_path, *tmp_path.parents):
        if "pytest-" in str(parent):
            parent.chmod(parent.stat().st_mode | 0o055)
    for path in cache.path.parent.iterdir():
        path.chmod(0o444)
    cache.path.parent.chmod(0o555)
    script = """
import os, sys
from pathlib import Path
from mlxnb.cache import ResultCache, WarnOnce
from tests.cache.strategies import result
if os.getuid() == 0: os.setuid(65534)
said = []
for name in ("cache", "cache/new"):
    cache = ResultCache(Path(sys.argv[1]) / name / "results.sqlite", warn=WarnOnce(said.append), pause=0)
    for _ in range(3):
        print(cache.get("k"), bool(cache.put("k2", result())), cache.clear(), cache.usage(), end=" ")
    print(len(said), end=" ")
"""
    try:
        assert _python(script, tmp_path) == ("None False 0 None " * 3 + "4 ") + ("None False 0 None " * 3 + "5")
    finally:
        cache.path.parent.chmod(0o700)


def test_processes_and_threads_share_one_file(tmp_path):
    script = """
import random, sys
from pathlib import Path
from threading import Thread
from mlxnb.cache import ResultCache, WarnOnce
from tests.cache.strategies import result
seed, said = int(sys.argv[2]), []
cache = ResultCache(Path(sys.argv[1]) / "r.sqlite", limit=20_000, warn=WarnOnce(said.append), wait=60)
hits = []
def work(number):
    own = random.Random(seed * 10 + number)
    for _ in range(100):
        key = str(own.randrange(30))
        found = cache.get(key)
        assert found in (None, result(key * 20)), found
        hits.append(found is not None)
        assert cache.put(key, result(key * 20))
threads = [Thread(target=work, args=(n,)) for n in range(2)]
for t in threads: t.start()
for t in threads: t.join()
used = sum(u.bytes for u in cache.usage().values())
print(said, len(hits), any(hits), 0 < used <= 20_000, cache._connection.execute("PRAGMA integrity_check").fetchone()[0])
"""
    running = [_start(script, tmp_path, str(seed)) for seed in range(3)]
    for process in running:
        out, err = process.communicate()
        assert (out.strip(), process.returncode) == ("[] 200 True True ok", 0), err


def test_a_second_cache_on_the_file_takes_no_locks_away(make, tmp_path):
    """Else the process that closes takes itself for the last, and deletes the log that is in use here."""
    first, second = make(), make()
    assert first.put("k", result())
    assert second.get("k")
    script = """
import sys
from pathlib import Path
from mlxnb.cache import ResultCache
cache = ResultCache(Path(sys.argv[1]) / "cache" / "results.sqlite")
print(bool(cache.get("k")))
cache.close()
"""
    assert _python(script, tmp_path) == "True"
    assert first.put("new", result("new"))
    assert make().get("new").text == "new"


def test_two_processes_that_find_it_damaged_make_one_new_file(make, said, tmp_path):
    first, second = make(), make()
    for cache in (first, second):
        cache.put("k", result())
        cache.close()
    first.path.write_bytes(b"no database " * 1000)
    second._inode = first.path.stat().st_ino  # it found the damage, and is held up before it acts
    assert first.put("new", result("new"))
    from mlxnb.cache.database import move_aside

    assert move_aside(second.path, second._inode) is None
    assert second.get("new").text == "new"


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("step", range(12))
def test_a_kill_during_a_write_loses_at_most_that_answer(tmp_path, step):
    """SQLite is asked to call back after every few instructions of its virtual machine, and dies in one of them."""
    script = """
import os, signal, sys
from pathlib import Path
from mlxnb.cache import ResultCache
from tests.cache.strategies import result
cache = ResultCache(Path(sys.argv[1]) / "r.sqlite", limit=200_000)
for n in range(20): cache.put(str(n), result("x" * 9000))
left = int(sys.argv[2]) * 9 + 1
def count():
    global left
    left -= 1
    if left == 0: os.kill(os.getpid(), signal.SIGKILL)
cache._connection.set_progress_handler(count, 1)
while True: cache.put("last", result("y" * 50_000))
"""
    process = _start(script, tmp_path, str(step))
    process.communicate()
    assert process.returncode == -9
    cache = ResultCache(tmp_path / "r.sqlite", limit=200_000, warn=WarnOnce(pytest.fail))
    found = [cache.get(str(n)) for n in range(20)]
    assert all(f in (None, result("x" * 9000)) for f in found)
    assert sum(f is not None for f in found) >= 14
    assert cache.get("last") in (None, result("y" * 50_000))
    assert cache.put("more", result())
    assert cache._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    total, summed = cache._connection.execute(
        "SELECT (SELECT bytes FROM total), (SELECT sum(bytes) FROM answer)"
    ).fetchone()
    assert total == summed


def test_a_fork_opens_the_file_for_itself(cache):
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    cache.put("k", result())
    before = cache._connection
    cache._opened_by = -1  # as after a fork
    assert cache.get("k")
    assert cache._connection is not before


def _start(script, *args, stdin=None):
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _python(script, *args):
    process = _start(script, *args)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out.strip()
