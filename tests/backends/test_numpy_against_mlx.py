"""The numpy sampler means by every option what mlx-lm means by it: its own functions keep and draw the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb.backends.numpy_sampling import filtered, penalise
from mlxnb.request import Sampling
from tests.backends.mlx_draws import VOCABULARY, check_drawn_from, kept_by_mlx_lm, logits_for, mlx_draws

mx = pytest.importorskip("mlx.core", reason="its samplers are what this one is held against")

from mlxnb.backends.mlx import make_processors  # noqa: E402

SETTINGS = [
    Sampling(temperature=1.0, seed=4),
    Sampling(temperature=0.6, seed=5),
    Sampling(temperature=1.5, top_p=0.8, seed=6),
    Sampling(temperature=1.0, top_k=5, seed=7),
    Sampling(temperature=1.0, top_k=VOCABULARY, seed=8),
    Sampling(temperature=0.8, min_p=0.1, seed=9),
    Sampling(temperature=1.3, top_p=0.9, min_p=0.05, top_k=7, seed=10),
]


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_mlx_draws_from_the_same_distribution(sampling):
    logits = logits_for(6)
    weights = filtered(logits, sampling).astype(np.float64) / sampling.temperature
    expected = np.exp(weights) / np.exp(weights).sum()
    check_drawn_from(expected, mlx_draws(logits, sampling))


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10_000),
    top_p=st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99, 1.0]),
    min_p=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    top_k=st.sampled_from([0, 1, 3, 39, 40, 100]),
)
def test_the_filters_keep_what_mlx_lms_keep(seed, top_p, min_p, top_k):
    logits = logits_for(seed)
    ours = filtered(logits, Sampling(temperature=1.0, top_p=top_p, min_p=min_p, top_k=top_k))
    assert (kept_by_mlx_lm(logits, top_p, min_p, top_k) == np.isfinite(ours)).all()


@settings(max_examples=100)
@given(seed=st.integers(0, 10_000), recent=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=60))
def test_repetition_penalty_is_mlx_lms(seed, recent):
    logits = logits_for(seed)
    before = logits.copy()
    [processor] = make_processors(Sampling(repetition_penalty=1.3), [])
    theirs = processor(mx.array(recent), mx.array(logits)[None])
    np.testing.assert_allclose(penalise(logits, recent[-20:], 1.3), np.array(theirs)[0], rtol=1e-6)
    assert (logits == before).all()  # they may be the model's own buffer
