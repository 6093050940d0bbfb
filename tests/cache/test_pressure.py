from hypothesis import given
from hypothesis import strategies as st

from mlxnb.cache import PrefixCache, budget, pressure
from mlxnb.cache.pressure import threshold
from tests.cache.fakes import FakeStates

BYTES = st.integers(0, 10**12)


@given(BYTES, BYTES, BYTES)
def test_it_shrinks_only_below_the_threshold_and_as_far_as_it_must(held, free, least):
    found = pressure(held, free, least)
    assert bool(found) == (free < least and held > 0)
    if found:
        assert 0 <= found.shrink_to <= held
        given_back = held - found.shrink_to
        assert given_back == held or least * 1.5 - 1 <= free + given_back <= least * 1.5 + 1


def test_the_reason_has_the_figures():
    assert str(pressure(10**9, 10**8, 5 * 10**8)) == (
        "100 MB free where 500 MB should be: the prefix cache shrinks from 1.0 GB to 350 MB"
    )
    assert "2.0 GB free" in str(pressure(10**9, 2 * 10**9, 5 * 10**8))
    assert "empty already" in str(pressure(0, 0, 5 * 10**8))


def test_this_machine():
    assert 0 < threshold() <= 2 * 10**9
    assert budget(held=0) > 0
    assert pressure(held=0).free > 0


@given(BYTES, st.integers(0, 10**9))
def test_the_budget_does_not_shrink_because_the_cache_fills(free, held):
    """What the cache takes is missing from what is free; counting it twice would make it drop what it just stored."""
    assert budget(held, max(0, free - held)) >= budget(0, free) if held <= free else True


def test_a_cache_under_pressure_says_what_it_dropped():
    states, cache = FakeStates(), PrefixCache(lambda: 10**6)
    for first in range(10):
        tokens = (first, *range(99))
        cache.store("n", tokens, states.prefill(tokens), states)
    cache.pin("kept", "n", (0, *range(99)), states)
    found = pressure(cache.nbytes, free=1000, least_free=4000)
    said = cache.shrink(found.shrink_to)
    assert (said.entries, said.freed, said.left) == (7, 5600, 2400)
    assert str(said) == "prefix cache shrunk by 5.6 kB to 2.4 kB"
    assert [pin.held for pin in cache.pins()] == [True]
    assert str(cache.shrink(0)) == "prefix cache shrunk by 2.4 kB to 0 bytes, pins dropped: kept"
    assert [pin.held for pin in cache.pins()] == [False]
    cache.store("n", (0, *range(120)), states.prefill((0, *range(120))), states)
    assert [pin.held for pin in cache.pins()] == [True]
