"""Student's t against its table, and the level that a family of comparisons shares."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb.profiling.judge.figures import T_95
from mlxnb.profiling.judge.student import LEVEL, reach, shared_level, tail


def test_it_is_the_table() -> None:
    assert [round(reach(0.05, freedom), 3) for freedom in range(1, 31)] == [round(t, 3) for t in T_95]


@pytest.mark.parametrize(("t", "freedom", "expected"), [(1.0, 1, 0.5), (4.604, 4, 0.01), (8.610, 4, 0.001), (0, 7, 1)])
def test_known_tails(t: float, freedom: int, expected: float) -> None:
    assert tail(t, freedom) == pytest.approx(expected, rel=1e-3)
    assert tail(-t, freedom) == tail(t, freedom)


def test_beyond_everything_is_nothing() -> None:
    assert tail(math.inf, 3) == 0.0


@settings(max_examples=60, deadline=None)
@given(level=st.floats(1e-6, 0.9), freedom=st.integers(1, 60))
def test_reach_undoes_tail(level: float, freedom: int) -> None:
    assert tail(reach(level, freedom), freedom) == pytest.approx(level, rel=1e-6)


def test_it_is_that_of_drawn_values() -> None:
    drawn = np.random.default_rng(0).standard_t(4, 200_000)
    assert np.mean(np.abs(drawn) > 2) == pytest.approx(tail(2, 4), abs=0.003)


@pytest.mark.parametrize(
    ("probabilities", "level"),
    [
        ([], LEVEL),
        ([0.5], LEVEL),
        ([0.2] * 10, LEVEL / 10),  # none: as strict as the first of ten must be
        ([0.001] * 10, LEVEL),  # all of them: no stricter than one alone
        ([0.001, 0.009, 0.5, 0.5], LEVEL / 2),
        ([0.5, 0.024, 0.5, 0.5], LEVEL / 4),
    ],
)
def test_the_level_is_that_of_how_many_differ(probabilities: list[float], level: float) -> None:
    assert shared_level(probabilities) == pytest.approx(level)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_those_below_the_level_are_as_many_as_it_was_made_for(probabilities: list[float]) -> None:
    level = shared_level(probabilities)
    below = sum(p <= level for p in probabilities)
    assert level == pytest.approx(LEVEL * max(1, below) / len(probabilities))
