from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.cache import Ledger, Tally
from mlxnb.cache import stats as module


def test_counts_by_model_and_in_all():
    ledger = Ledger()
    ledger.label("ns-1", "pocket")
    ledger.label("ns-2", "pocket")
    ledger.looked_up("prefix", "ns-1", tokens=100, saved=80, prefill_rate=40.0)
    ledger.looked_up("prefix", "ns-2", tokens=10, saved=5)
    ledger.looked_up("prefix", "other", tokens=7)
    ledger.evicted("prefix", "other", 3)
    ledger.looked_up("result", "pocket", tokens=9, saved=9, seconds=1.5)
    assert [ledger.name(namespace) for namespace in ("ns-1", "other")] == ["pocket", ""]
    assert ledger.by_model("prefix") == {
        "other": Tally(misses=1, tokens=7, evictions=3),
        "pocket": Tally(hits=2, tokens=110, tokens_saved=85, seconds_saved=2.0),
    }
    assert ledger.tally("prefix") == Tally(2, 1, 117, 85, 2.0, 3)
    assert ledger.tally("prefix").hit_rate == pytest.approx(2 / 3)
    assert ledger.tally("prefix", "pocket").hit_rate == 1.0
    assert ledger.tally("result") == Tally(hits=1, tokens=9, tokens_saved=9, seconds_saved=1.5)
    assert ledger.tally("result", "nobody").hit_rate is None


def test_history_is_bounded_and_in_order(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(module.time, "time", lambda: float(next(clock)))
    ledger = Ledger(history=4)
    ledger.looked_up("result", "m", 1, 1)
    for saved in (2, 0, 2, 2):
        ledger.looked_up("prefix", "ns", 4, saved)
    ledger.evicted("prefix", "ns")
    ledger.label("ns", "pocket")
    assert [(s.time, s.model, s.hit) for s in ledger.history("prefix")] == [
        (1.0, "pocket", True),
        (2.0, "pocket", False),
        (3.0, "pocket", True),
        (4.0, "pocket", True),
    ]
    assert ledger.history("result") == []
    assert ledger.hit_rates("prefix", window=2) == [(1.0, 1.0), (2.0, 0.5), (3.0, 0.5), (4.0, 1.0)]
    assert len(ledger.history()) == 4


@pytest.mark.parametrize(
    ("tokens", "saved", "hit"),
    [(4000, 16, True), (4000, 15, False), (20, 10, True), (21, 10, False), (1, 0, False), (2, 1, True), (30, 15, True)],
)
def test_a_hit_is_worth_having_and_what_little_is_saved_counts_all_the_same(tokens, saved, hit):
    ledger = Ledger()
    ledger.looked_up("prefix", "m", tokens, saved, prefill_rate=10.0)
    assert ledger.tally("prefix") == Tally(int(hit), int(not hit), tokens, saved, saved / 10)
    assert [seen.hit for seen in ledger.history()] == [hit]


def test_threads_lose_no_count():
    ledger = Ledger()

    def count():
        for _ in range(500):
            ledger.looked_up("prefix", "m", 2, 1)

    threads = [Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.tally("prefix") == Tally(hits=2000, tokens=4000, tokens_saved=2000)


@given(st.lists(st.tuples(st.sampled_from(["result", "prefix"]), st.booleans()), max_size=40), st.integers(1, 10))
def test_the_hits_of_late_are_those_of_the_last_rate(lookups: list, window: int) -> None:
    ledger = Ledger(history=20)
    for kind, hit in lookups:
        ledger.looked_up(kind, "m", 20, 20 if hit else 0)
    for kind in ("result", "prefix"):
        hits, seen = ledger.recent_hits(kind, window)
        rates = ledger.hit_rates(kind, window)
        assert seen == min(window, len(rates))
        assert not rates or hits / seen == rates[-1][1]
