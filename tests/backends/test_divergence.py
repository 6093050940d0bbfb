"""The divergence of two models' predictions: its formula, its bounds, and what it is of equal ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlxnb.backends.divergence import ENOUGH, Tally, kl_divergence

LOGITS = arrays(np.float32, (3, 7), elements=st.floats(-30, 30, width=32))


@given(LOGITS, LOGITS)
def test_it_is_never_negative_and_is_the_formula(p, q):
    found = kl_divergence(p, q)
    assert (found >= 0).all()
    for row in range(3):
        p_row, q_row = ([math.exp(v) / math.fsum(math.exp(w) for w in rows[row]) for v in rows[row]] for rows in (p, q))
        exact = math.fsum(a * math.log(a / b) for a, b in zip(p_row, q_row, strict=True))
        assert found[row] == pytest.approx(exact, rel=1e-6, abs=1e-9)


@given(LOGITS, st.floats(-50, 50))
def test_it_is_zero_for_the_same_and_no_constant_changes_it(p, constant):
    assert (kl_divergence(p, p) == 0).all()
    assert kl_divergence(p, p.astype(np.float64) + constant) == pytest.approx(0, abs=1e-9)


def test_an_outcome_without_chance_adds_nothing_and_one_that_was_missed_adds_everything():
    certain, half = np.array([[0.0, -np.inf]]), np.array([[0.0, 0.0]])
    assert kl_divergence(certain, half) == pytest.approx([math.log(2)])
    assert kl_divergence(half, certain) == [math.inf]
    assert kl_divergence(certain, certain) == [0.0]


def log_probs(*rows):
    return np.log(np.array(rows, np.float32))


def test_a_tally_counts_every_position():
    tally = Tally()
    tally.add(log_probs([0.5, 0.5], [0.9, 0.1]), log_probs([0.25, 0.75], [0.9, 0.1]), [0, 0])
    tally.add(log_probs([0.2, 0.8]), log_probs([0.8, 0.2]), [1])
    found = tally.result()
    first = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    third = 0.2 * math.log(0.2 / 0.8) + 0.8 * math.log(0.8 / 0.2)
    assert found.tokens == 3
    assert found.kl_mean == pytest.approx((first + third) / 3, rel=1e-6)
    assert found.kl_p99 is None  # three positions have no 99th percentile
    assert found.source_perplexity == pytest.approx((0.5 * 0.9 * 0.8) ** (-1 / 3), rel=1e-6)
    assert found.perplexity == pytest.approx((0.25 * 0.9 * 0.2) ** (-1 / 3), rel=1e-6)
    assert found.agreement == pytest.approx(1 / 3)


def test_the_percentile_comes_with_enough_positions():
    tally, rows = Tally(), log_probs(*[[0.5, 0.5]] * ENOUGH)
    tally.add(rows, rows, [0] * ENOUGH)
    assert tally.result().kl_p99 == 0
    assert tally.result().kl_mean == 0
    assert tally.result().agreement == 1


def test_a_token_that_never_comes_makes_perplexity_infinite():
    tally = Tally()
    tally.add(np.array([[0.0, -1000.0]], np.float32), np.array([[0.0, -1000.0]], np.float32), [1])
    assert tally.result().perplexity == math.inf
