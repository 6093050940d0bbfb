"""A leak of a known size is found with that size, none is called none, and what ends it early keeps what there is."""

from __future__ import annotations

import itertools
import mmap
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb.backends.base import Backend
from mlxnb.errors import GenerationError
from mlxnb.profiling.judge.rules import findings
from mlxnb.profiling.judge.trend import lost
from mlxnb.profiling.machine.memory import Held, heap_free_share, in_process
from mlxnb.profiling.report.beside import HOLDS, LEAKS, PAGE, TOO_FEW, UNCLEAR
from mlxnb.profiling.runs.stress import LEAST, grown, stress
from mlxnb.profiling.show.markdown import to_markdown
from mlxnb.request import Request
from mlxnb.runtime import Engine
from tests.profiling.reports import healthy
from tests.profiling.slow import LeakyBackend, TimedBackend

MB = 1_048_576
ASKED = Request.of("Say something.", cache="off")


@pytest.fixture
def engine_of() -> Iterator[Callable[[Backend], Engine]]:
    made: list[Engine] = []

    def make(backend: Backend) -> Engine:
        made.append(Engine({"scripted": backend}, caching=False))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def ticks(step: float = 1.0) -> Callable[[], float]:
    """A clock that goes on by `step` at each look, so that the requests of a test are counted and not timed."""
    return itertools.count(0, step).__next__


def test_a_known_leak_is_found_with_its_size(engine_of):
    backend = LeakyBackend(lambda i: MB)
    found = stress(engine_of(backend), ASKED, 180, ticks(), 3)
    assert (found.case, found.verdict, found.ended) == (3, LEAKS, "time")
    assert found.requests == len(found.memory) == len(backend.kept) - 1  # one more loaded the model
    assert found.low <= found.growth <= found.high
    assert found.growth == pytest.approx(MB, rel=0.02)
    assert found.low < 1.02 * MB
    assert found.high > 0.98 * MB
    assert found.confidence > 0.95


def test_the_interval_holds_a_leak_that_comes_at_random(engine_of):
    random = np.random.default_rng(0)
    sizes = [int(size) * mmap.PAGESIZE for size in random.integers(0, 200, 200)]
    backend = LeakyBackend(lambda i: sizes[i])
    found = stress(engine_of(backend), ASKED, 360, ticks(), 0, reading=lambda: Held(backend.bytes_kept))
    half = sizes[-(found.requests // 2) :]
    assert found.low <= np.mean(half) <= found.high
    assert found.verdict == LEAKS


def test_without_a_leak_there_is_none(engine_of):
    found = stress(engine_of(LeakyBackend(lambda i: 0)), ASKED, 180, ticks(), 0)
    assert found.verdict == HOLDS
    assert found.growth < PAGE
    assert found.confidence > 0.95


def test_caches_that_fill_at_the_beginning_are_no_leak(engine_of):
    found = stress(engine_of(LeakyBackend(lambda i: MB if i < 20 else 0)), ASKED, 180, ticks(), 0)
    assert found.verdict == HOLDS


def test_a_decline_of_a_third_is_found(engine_of):
    backend = TimedBackend(lambda i, request: 300 if i <= 20 else 250 if i <= 40 else 200)
    found = stress(engine_of(backend), ASKED, 120, ticks(), 0, reading=Held)
    assert found.requests == 60
    assert found.decline == pytest.approx(1 / 3, rel=1e-6)
    assert 0 < found.decline_low <= found.decline <= found.decline_high


def test_a_rate_that_only_wavers_has_0_in_its_interval():
    rates = [200 + 20 * ((7 * i) % 11 - 5) for i in range(90)]
    middle, low, high = lost(rates) or (1.0, 1.0, 1.0)
    assert low <= 0 <= high
    assert low <= middle <= high


@pytest.mark.parametrize("values", [[], [1.0, 2.0], [0.0] * 9])
def test_where_nothing_can_be_lost_there_is_no_share(values):
    assert lost(values) is None


def test_it_ends_where_memory_stopped_growing(engine_of):
    found = stress(engine_of(LeakyBackend(lambda i: MB if i < 10 else 0)), ASKED, None, ticks(0.01), 0)
    assert found.ended == "memory stopped growing"
    assert 2 * LEAST <= found.requests < 200
    assert found.verdict == HOLDS


def test_too_few_requests_tell_nothing(engine_of):
    found = stress(engine_of(LeakyBackend(lambda i: MB)), ASKED, 5, ticks(), 0)
    assert (found.verdict, found.confidence, found.growth) == (TOO_FEW, 0.0, 0.0)


def test_what_too_few_requests_cannot_tell_is_not_zero(engine_of):
    found = stress(engine_of(LeakyBackend(lambda i: 0)), ASKED, 3, ticks(), 0)
    assert found.requests < 3
    assert found.decline is None
    (said,) = findings(healthy(stress=(found,)))
    assert "leak: no stress that tells: too few requests to tell" in said.evidence
    assert "rate lost" not in to_markdown(healthy(stress=(found,)))


def test_an_interrupt_keeps_what_there_is(engine_of):
    backend = LeakyBackend(lambda i: MB)
    seen = itertools.count()

    def interrupted() -> Held:
        if next(seen) == 30:
            raise KeyboardInterrupt
        return Held(backend.bytes_kept)

    found = stress(engine_of(backend), ASKED, 1e6, ticks(), 0, reading=interrupted)
    assert (found.ended, found.requests, found.verdict) == ("interrupted", 30, LEAKS)
    assert found.low <= MB <= found.high


def test_a_request_that_fails_ends_it_and_says_why(engine_of):
    backend = LeakyBackend(lambda i: MB)
    count = itertools.count()

    def fail_later(place: str) -> None:
        if place == "prefill" and next(count) == 25:
            raise RuntimeError("out of memory")

    backend.fail = fail_later  # type: ignore[method-assign]
    found = stress(engine_of(backend), ASKED, 1e6, ticks(), 0)
    assert found.requests == 24
    assert "out of memory" in found.ended
    assert found.verdict == LEAKS


def test_where_not_even_the_first_is_answered_it_raises(engine_of):
    backend = LeakyBackend(lambda i: 0, fails={"prefill": lambda: RuntimeError("the driver fell over")})
    with pytest.raises(GenerationError, match="the driver fell over"):
        stress(engine_of(backend), ASKED, 10, ticks(), 0)


def test_a_real_model_keeps_nothing_of_its_answers(engine):
    asked = Request.of("Tell me a story.", model="pocket", backend="torch", cache="off", max_tokens=3)
    found = stress(engine, asked, 100, ticks(), 0)
    assert found.requests == 50
    assert found.growth < 64 * PAGE
    assert found.verdict != LEAKS


def test_progress_is_told_of_each_request(engine_of):
    heard = []
    stress(engine_of(LeakyBackend(lambda i: 0)), ASKED, 60, ticks(), 0, progress=heard.append)
    assert [each.done for each in heard] == list(range(1, len(heard) + 1))
    assert all(each.doing == "stress" and each.total >= each.done for each in heard)


def test_it_goes_on_for_as_long_as_it_is_told(engine_of):
    found = stress(engine_of(LeakyBackend(lambda i: 0)), ASKED, 0.3, time.perf_counter, 0)
    assert found.seconds >= 0.3


@settings(max_examples=30)
@given(st.integers(1, 10**9), st.lists(st.integers(-1000, 1000), min_size=LEAST, max_size=80))
def test_a_leak_beyond_the_noise_is_always_found(leak, noise):
    sizes = [100 + i * (leak + 2 * PAGE) + jitter for i, jitter in enumerate(noise)]
    found = grown(sizes)
    assert found.verdict == LEAKS
    assert found.low <= found.each <= found.high
    assert found.each == pytest.approx(leak + 2 * PAGE, abs=500)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 50 * MB), min_size=LEAST, max_size=120))
def test_memory_that_only_wavers_is_never_a_leak(sizes):
    assert grown(sizes).verdict != LEAKS or slope_of_halves(sizes) > 0


def slope_of_halves(sizes: list[int]) -> float:
    """What is drawn at random may rise for once."""
    late = sizes[len(sizes) // 2 :]
    return float(np.mean(late[len(late) // 2 :]) - np.mean(late[: len(late) // 2]))


def test_a_sawtooth_of_collections_is_no_leak():
    assert grown([10 * MB + (i % 9) * MB for i in range(120)]).verdict == HOLDS


def test_a_cache_that_grew_once_is_not_called_a_leak():
    assert grown([10 * MB] * 90 + [60 * MB] * 30).verdict in (HOLDS, UNCLEAR)


def test_a_leak_that_shows_every_tenth_request_is_found():
    found = grown([10 * MB + i // 10 * 10 * MB for i in range(200)])
    assert found.verdict == LEAKS
    assert found.low <= MB <= found.high


@pytest.mark.skipif(sys.platform != "linux" or heap_free_share() is None, reason="needs glibc 2.33 or later")
def test_free_blocks_are_a_share_of_what_the_heap_has():
    before = heap_free_share()
    held = [bytes(50_000) for _ in range(400)]  # below the size that malloc asks the system for each time
    del held[::2]
    after = heap_free_share()
    assert before is not None
    assert after is not None
    assert 0 <= before <= 1
    assert 0 < after <= 1
    assert in_process().free_share is not None
