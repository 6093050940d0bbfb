"""One set of logits goes to each backend's sampler: the options mean the same on both."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb.request import Sampling
from tests.backends.mlx_draws import VOCABULARY, check_drawn_from, kept_by_mlx_lm, logits_for, mlx_draws

mx = pytest.importorskip("mlx.core")
torch = pytest.importorskip("torch")

from mlxnb.backends.mlx import make_processors, make_sampler  # noqa: E402
from mlxnb.backends.torch_sampling import TorchSampler, filtered, likeliest, penalise  # noqa: E402


def torch_probabilities(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    kept = filtered(torch.tensor(logits)[None], sampling)
    return torch.softmax(kept / sampling.temperature, dim=-1)[0].double().numpy()


SETTINGS = [
    Sampling(temperature=1.0),
    Sampling(temperature=0.6),
    Sampling(temperature=1.5, top_p=0.8),
    Sampling(temperature=1.0, top_k=5),
    Sampling(temperature=1.0, top_k=VOCABULARY),
    Sampling(temperature=0.8, min_p=0.1),
    Sampling(temperature=1.3, top_p=0.9, min_p=0.05, top_k=7),
    Sampling(temperature=0.7, top_p=0.5, top_k=20),
]


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_mlx_draws_from_the_distribution_that_torch_computes(sampling):
    logits = logits_for(5)
    expected = torch_probabilities(logits, sampling)
    check_drawn_from(expected, mlx_draws(logits, sampling))


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10_000),
    top_p=st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99, 1.0]),
    min_p=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    top_k=st.sampled_from([0, 1, 3, 39, 40, 100]),
)
def test_both_keep_the_same_tokens(seed, top_p, min_p, top_k):
    logits = logits_for(seed)
    sampling = Sampling(temperature=1.0, top_p=top_p, min_p=min_p, top_k=top_k)
    ours = filtered(torch.tensor(logits)[None], sampling)[0].numpy()
    assert (kept_by_mlx_lm(logits, top_p, min_p, top_k) == np.isfinite(ours)).all()


@settings(max_examples=100)
@given(
    seed=st.integers(0, 10_000),
    recent=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=60),
    reused=st.integers(0, 59),
)
def test_repetition_penalty_is_mlx_lms(seed, recent, reused):
    logits, reused = logits_for(seed), min(reused, len(recent) - 1)
    [processor] = make_processors(Sampling(repetition_penalty=1.3), recent[:reused])
    theirs = processor(mx.array(recent[reused:]), mx.array(logits)[None])
    ours = penalise(torch.tensor(logits)[None], recent[-20:], 1.3)
    np.testing.assert_allclose(np.array(theirs), ours.numpy(), rtol=1e-6)


def test_no_penalty_costs_nothing():
    assert make_processors(Sampling(), [1, 2]) == []


def test_greedy_takes_the_likeliest_on_both():
    logits = logits_for(3)
    greedy = Sampling()
    assert int(make_sampler(greedy)(mx.array(logits)[None])[0]) == int(logits.argmax())
    assert TorchSampler(greedy, "cpu")(torch.tensor(logits)[None], []) == int(logits.argmax())


@given(
    rows=st.lists(st.lists(st.integers(-3, 3), min_size=70, max_size=70), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_of_several_likeliest_tokens_the_first_is_taken(rows, dtype):
    assert likeliest(torch.tensor(rows, dtype=dtype)) == [row.index(max(row)) for row in rows]


def test_a_torch_seed_repeats_and_is_its_own():
    logits = torch.tensor(logits_for(1))[None]

    def draw(seed: int) -> list[int]:
        sampler = TorchSampler(Sampling(temperature=1.0, seed=seed), "cpu")
        torch.manual_seed(99)  # the process's generator must not matter
        return [sampler(logits, []) for _ in range(30)]

    assert draw(1) == draw(1) != draw(2)
    assert math.isfinite(sum(draw(3)))
