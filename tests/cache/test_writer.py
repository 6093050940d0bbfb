import threading

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
