"""Samplers and processors on torch against mlx-lm's own: the same tokens survive, the same values are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb.lm.on_torch.sampling import make_logits_processors, make_sampler

torch = pytest.importorskip("torch")
mx = pytest.importorskip("mlx.core")
theirs = pytest.importorskip("mlx_lm.sample_utils")

VOCABULARY = 40


def logprobs(seed):
    values = np.random.default_rng(seed).normal(0, 2, (1, VOCABULARY)).astype(np.float32)
    return values - np.log(np.exp(values).sum())


def reached(sampler, wrap, values, draws=400):
    """Every token that comes up; far more draws than tokens that a filter leaves."""
    return {sampler(wrap(values)).item() for _ in range(draws)}


FILTERS = [
    {"top_p": 0.3}, {"top_p": 0.6}, {"min_p": 0.3}, {"min_p": 0.9, "min_tokens_to_keep": 3}, {"top_k": 3},
    {"top_k": 1}, {"top_p": 0.7, "min_p": 0.2, "top_k": 4}, {"xtc_probability": 1.0, "xtc_threshold": 0.05, "top_k": 3},
    {"xtc_probability": 1.0, "xtc_threshold": 0.05, "xtc_special_tokens": [0, 1, 2], "top_k": 4},
]  # fmt: skip


@pytest.mark.parametrize("options", FILTERS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_same_tokens_survive(options, seed):
    torch.manual_seed(0)
    mx.random.seed(0)
    # Hot enough that all that is left comes up.
    ours = reached(make_sampler(50.0, **options), torch.from_numpy, logprobs(seed))
    assert ours == reached(theirs.make_sampler(50.0, **options), mx.array, logprobs(seed))
    assert len(ours) < VOCABULARY


def test_temperature_weighs_what_is_left():
    values = logprobs(3)
    for temperature in (0.5, 2.0):
        sampler = make_sampler(temperature)
        drawn = sampler(torch.from_numpy(values).expand(20_000, -1)).numpy()
        expected = np.exp(values[0] / temperature)
        expected /= expected.sum()
        assert np.abs(np.bincount(drawn, minlength=VOCABULARY) / 20_000 - expected).max() < 0.02


def test_a_seed_repeats_a_draw():
    sampler = make_sampler(1.0)
    drawn = []
    for _ in range(2):
        torch.manual_seed(7)
        drawn.append([int(sampler(torch.from_numpy(logprobs(0)))) for _ in range(20)])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 1


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1000),
    tokens=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=30),
    penalties=st.fixed_dictionaries(
        {},
        optional={
            "repetition_penalty": st.floats(0.2, 3),
            "repetition_context_size": st.integers(1, 25),
            "presence_penalty": st.floats(-2, 2),
            "frequency_penalty": st.floats(-2, 2),
            "frequency_context_size": st.integers(1, 25),
            "logit_bias": st.dictionaries(st.integers(0, VOCABULARY - 1), st.floats(-4, 4), max_size=3),
        },
    ),
)
def test_processors_give_mlx_lm_s_logits(seed, tokens, penalties):
    values = np.random.default_rng(seed).normal(0, 3, (1, VOCABULARY)).astype(np.float32)
    ours, reference = torch.from_numpy(values.copy()), mx.array(values)
    made, expected = make_logits_processors(**penalties), theirs.make_logits_processors(**penalties)
    assert len(made) == len(expected)
    for process in made:
        ours = process(torch.tensor(tokens), ours)
    for process in expected:
        reference = process(mx.array(tokens), reference)
    assert np.allclose(ours.numpy(), np.array(reference), atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [{"min_p": 1.5}, {"min_p": -0.1}, {"min_p": 0.1, "min_tokens_to_keep": 0}, {"top_k": VOCABULARY}, {"top_k": 2.5},
     {"xtc_probability": 2.0}, {"xtc_probability": 0.5, "xtc_threshold": 0.7}],
)  # fmt: skip
def test_values_are_refused_when_they_are_first_used_as_in_mlx_lm(options):
    for make, wrap in ((make_sampler, torch.from_numpy), (theirs.make_sampler, mx.array)):
        sampler = make(1.0, **options)
        with pytest.raises(ValueError):
            sampler(wrap(logprobs(0)))


def test_a_negative_repetition_penalty_is_refused_at_once():
    for make in (make_logits_processors, theirs.make_logits_processors):
        with pytest.raises(ValueError, match="-1"):
            make(repetition_penalty=-1)
    assert make_logits_processors() == make_logits_processors(repetition_penalty=0) == []
    assert len(make_logits_processors(repetition_penalty=1.0)) == 1


@pytest.mark.parametrize(
    ("bias", "said"),
    [
        ({"a": 1.0}, "logit_bias has 'a': 1.0"),
        ({-1: 1.0}, "logit_bias has -1: 1.0"),
        ({1.5: 1.0}, "logit_bias has 1.5: 1.0"),
        ({5: None}, "logit_bias has 5: None"),
        ({5: "much"}, "logit_bias has 5: 'much'"),
        ({5: float("nan")}, "logit_bias has 5: nan"),
        ([(5, 1.0)], r"logit_bias is \[\(5, 1.0\)\]"),
    ],
)
def test_a_bias_that_is_none_is_refused_by_name(bias, said):
    from mlxnb.errors import OptionError
    from mlxnb.lm.sample_utils import make_logits_processors

    with pytest.raises(OptionError, match=said):
        make_logits_processors(logit_bias=bias)


def test_a_bias_of_a_token_that_the_model_has_not_is_refused_when_it_is_used(ours):
    import mlxnb.lm
    from mlxnb.errors import OptionError
    from mlxnb.lm.sample_utils import make_logits_processors

    with pytest.raises(OptionError, match=r"logit_bias has the token 4096\. The model has 4096 tokens"):
        mlxnb.lm.generate(*ours, "Hi", logits_processors=make_logits_processors(logit_bias={4096: 1.0, 3: 2.0}))
    never = make_logits_processors(logit_bias={3: float("inf"), 4: -float("inf")})
    [response] = mlxnb.lm.stream_generate(*ours, "Hi", max_tokens=1, logits_processors=never)
    assert response.token == 3
