"""The sampler in numpy keeps and draws what the others do."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb.backends.numpy_sampling import NumpySampler, filtered, log_softmax, penalise
from mlxnb.request import Sampling

torch = pytest.importorskip("torch", reason="torch's sampler is what this one is held against")

from mlxnb.backends import torch_sampling  # noqa: E402

VOCABULARY, DRAWS = 40, 4000


def logits_for(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, VOCABULARY).astype(np.float32)


@settings(max_examples=200)
@given(
    seed=st.integers(0, 10_000),
    top_p=st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99, 1.0]),
    min_p=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    top_k=st.sampled_from([0, 1, 3, 39, 40, 100]),
)
def test_the_same_tokens_are_kept_as_in_torch(seed, top_p, min_p, top_k):
    logits, sampling = logits_for(seed), Sampling(temperature=1.0, top_p=top_p, min_p=min_p, top_k=top_k)
    ours, theirs = filtered(logits, sampling), torch_sampling.filtered(torch.tensor(logits)[None], sampling)[0].numpy()
    assert (np.isfinite(ours) == np.isfinite(theirs)).all()
    assert np.allclose(ours[np.isfinite(ours)], theirs[np.isfinite(theirs)], atol=1e-5)


@given(seed=st.integers(0, 1000), penalty=st.sampled_from([0.5, 1.1, 2.0]), recent=st.lists(st.integers(0, 39)))
def test_the_same_penalty_as_in_torch(seed, penalty, recent):
    logits = logits_for(seed)
    theirs = torch_sampling.penalise(torch.tensor(logits)[None], recent or [0], penalty)[0].numpy()
    assert np.allclose(penalise(logits, recent or [0], penalty), theirs)
    assert (logits == logits_for(seed)).all()  # what was given is not changed


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=0.6, seed=3), Sampling(temperature=1.5, top_p=0.8, top_k=7, seed=4)], ids=str
)
def test_draws_follow_the_distribution(sampling):
    logits, draw = logits_for(5), NumpySampler(sampling)
    kept = filtered(logits, sampling).astype(np.float64) / sampling.temperature
    expected = np.exp(kept - kept.max())
    expected /= expected.sum()
    counts = np.bincount([draw(logits, []) for _ in range(DRAWS)], minlength=VOCABULARY)
    assert counts[expected == 0].sum() == 0
    spread = np.sqrt(DRAWS * expected * (1 - expected)) + 1e-9
    assert (np.abs(counts - DRAWS * expected) <= 5 * spread + 1).all()


def test_a_seed_repeats_and_greedy_needs_none():
    draws = [[NumpySampler(Sampling(temperature=1.0, seed=s))(logits_for(9), []) for s in range(30)] for _ in range(2)]
    assert draws[0] == draws[1]
    assert len(set(draws[0])) > 3
    assert NumpySampler(Sampling())(logits_for(9), []) == int(logits_for(9).argmax())


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=50))
def test_log_softmax_sums_to_one(values):
    made = log_softmax(np.array(values, np.float32))
    assert math.isclose(float(np.exp(made.astype(np.float64)).sum()), 1.0, rel_tol=1e-4)
