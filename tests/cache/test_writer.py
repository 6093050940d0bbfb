import threading
import time

from mlxnb.cache import writer as module
from mlxnb.cache.writer import Writer


def test_work_is_done_in_order_and_bounded():
    done, gate, writer = [], threading.Event(), Writer("test", limit=10)
    assert writer.submit(20, lambda: (gate.wait(), done.append(0)))  # the first is taken whatever it holds
    assert not writer.submit(1, lambda: done.append(1))
    assert not writer.flush(timeout=0.01)
    gate.set()
    assert writer.flush()
    assert all(writer.submit(3, lambda n=n: done.append(n)) for n in (2, 3, 4))
    assert writer.flush(timeout=60)
    assert done == [0, 2, 3, 4]
    assert writer.flush(timeout=0)


def test_the_thread_ends_when_idle_and_comes_back(monkeypatch):
    monkeypatch.setattr(module, "IDLE", 0.01)
    done, writer = [], Writer("mlxnb-test-idle", limit=10)
    for turn in range(3):
        writer.submit(1, lambda turn=turn: done.append(turn))
        assert writer.flush()
        for thread in [t for t in threading.enumerate() if t.name == "mlxnb-test-idle"]:
            thread.join()
    assert done == [0, 1, 2]


def held_up(*names):
    """A writer that is busy with "first" until the gate opens, with these behind it."""
    begun, gate, done, writer = threading.Event(), threading.Event(), [], Writer("test", limit=100)
    writer.submit(5, lambda: (begun.set(), gate.wait(), done.append("first")), "first")
    begun.wait()
    for name in names:
        assert writer.submit(2, lambda name=name: done.append(name), name)
    return writer, gate, done


def test_what_waits_can_be_dropped_and_comes_again():
    writer, gate, done = held_up("a", "b", "c")
    assert writer.held == (4, 11)
    assert writer.drop(keep={"b", "first"}) == (2, 4)
    assert writer.held == (2, 7)  # what is being done is not dropped
    assert writer.submit(90, lambda: done.append("a"), "a")
    gate.set()
    assert writer.flush()
    assert done == ["first", "b", "a"]
    assert writer.held == (0, 0)
    assert writer.drop() == (0, 0)


def test_flush_waits_for_what_came_before_it_and_pause_for_what_is_being_done():
    writer, gate, done = held_up("a")
    late = threading.Event()
    waits = [threading.Thread(target=wait) for wait in (writer.flush, writer.pause)]
    for thread in waits:
        thread.start()
    while len(writer._changed._waiters) < 2:  # both wait, so what comes now comes after them
        time.sleep(0.001)
    writer.submit(2, late.wait, "late")
    gate.set()
    for thread in waits:
        thread.join()
    assert done == ["first", "a"]
    assert not writer.flush(timeout=0.01)
    late.set()
    assert writer.flush()
    assert writer.pause()


def test_a_drop_ends_a_flush_that_waits_for_nothing_else():
    writer, gate, done = held_up("a", "b")
    writer.drop()
    gate.set()
    assert writer.flush()
    assert done == ["first"]
