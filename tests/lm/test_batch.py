"""`batch_generate` on torch: rows that are decoded together give what each gives alone, in float32."""

from __future__ import annotations

import copy
import re

import pytest

import mlxnb.lm
from mlxnb.errors import EmptyPromptError, OptionError
from mlxnb.lm.models.cache import make_prompt_cache
from mlxnb.lm.sample_utils import make_logits_processors, make_sampler
from tests.tiny import Maker

torch = pytest.importorskip("torch")

LENGTHS = (5, 31, 1, 17, 40)
LIMITS = [9, 3, 14, 1, 20]


def prompts(vocabulary: int = 4096) -> list[list[int]]:
    return [[(37 * i * i + 11 * n + 5) % vocabulary for i in range(1, n + 1)] for n in LENGTHS]


def alone(pair, prompt, limit, **options):
    """What stream_generate gives, the token that ended it left out."""
    got = list(mlxnb.lm.stream_generate(*pair, prompt, max_tokens=limit, **options))
    tokens = [response.token for response in got]
    return tokens[:-1] if tokens[-1] in pair[1].eos_token_ids else tokens


@pytest.mark.parametrize("family", ["qwen3", "gemma3", "mistral-window", "deepseek-v3"])
@pytest.mark.parametrize("size", [1, 3, 32])
def test_together_as_alone_and_the_caches_hold_the_same(checkpoint: Maker, family, size):
    pair = mlxnb.lm.load(str(checkpoint(family)))
    caches = [make_prompt_cache(pair[0]) for _ in LENGTHS]
    expected = [alone(pair, *ask, prompt_cache=c) for *ask, c in zip(prompts(), LIMITS, caches, strict=True)]
    got = mlxnb.lm.batch_generate(
        *pair, prompts(), max_tokens=LIMITS, return_token_ids=True, return_prompt_caches=True,
        completion_batch_size=size, prefill_batch_size=1,
    )  # fmt: skip
    assert got.token_ids == expected
    assert got.texts == [pair[1].decode(tokens) for tokens in expected]
    assert [cache[0].offset for cache in got.caches] == [cache[0].offset for cache in caches]
    go_on = [[7, 8, 9]] * len(LENGTHS)
    expected = [alone(pair, [7, 8, 9], 6, prompt_cache=copy.deepcopy(cache)) for cache in caches]
    again = mlxnb.lm.batch_generate(*pair, go_on, got.caches, 6, return_token_ids=True)
    assert again.token_ids == expected
    assert [cache[0].offset for cache in got.caches] == [cache[0].offset for cache in caches]  # read, not changed
    assert again.caches is None


def test_one_step_is_one_for_all_rows(checkpoint: Maker):
    pair = mlxnb.lm.load(str(checkpoint("qwen3")))
    pair[1].eos_token_ids = set()
    stats = mlxnb.lm.batch_generate(*pair, prompts(), max_tokens=LIMITS).stats
    assert stats.generation_tokens == sum(LIMITS)
    assert stats.generation_steps == max(LIMITS)
    assert stats.prompt_tokens == sum(LENGTHS) - len(LENGTHS)
    assert stats.wall_time >= stats.prompt_time + stats.decode_time > 0


def test_functions_see_one_row_with_its_own_tokens(checkpoint: Maker):
    pair, seen = mlxnb.lm.load(str(checkpoint("qwen3"))), []

    def sampler(logprobs):
        assert logprobs.shape == (1, 4096)
        return logprobs.argmax(-1)

    def processor(tokens, logits):
        seen.append(tokens.tolist())
        return logits

    penalty = make_logits_processors(repetition_penalty=1.5)
    options = {"sampler": sampler, "logits_processors": [processor, *penalty]}
    got = mlxnb.lm.batch_generate(*pair, prompts(), max_tokens=LIMITS, return_token_ids=True, **options)
    assert {tuple(prompt) for prompt in prompts()} <= {tuple(tokens) for tokens in seen}
    assert got.token_ids == [alone(pair, *ask, **options) for ask in zip(prompts(), LIMITS, strict=True)]
    plain = mlxnb.lm.batch_generate(*pair, prompts(), max_tokens=LIMITS, return_token_ids=True)
    assert plain.token_ids != got.token_ids
    drawn = mlxnb.lm.batch_generate(*pair, prompts(), max_tokens=9, sampler=make_sampler(2.0), return_token_ids=True)
    assert len({tuple(tokens) for tokens in drawn.token_ids}) == len(LENGTHS)


def test_logprobs_are_those_of_the_tokens_alone(checkpoint: Maker):
    pair = mlxnb.lm.load(str(checkpoint("llama")))
    for options in ({}, {"sampler": make_sampler()}):
        got = mlxnb.lm.batch_generate(
            *pair, prompts(), max_tokens=5, return_logprobs=True, return_token_ids=True, **options
        )
        for prompt, tokens, logprobs in zip(prompts(), got.token_ids, got.logprobs, strict=True):
            single = list(mlxnb.lm.stream_generate(*pair, prompt, max_tokens=5))
            expected = [float(r.logprobs[r.token]) for r in single][: len(tokens)]
            assert logprobs == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("where", ["join", "step"])
@pytest.mark.parametrize("times", [1, 2])
def test_memory_that_runs_out_halves_the_batch_and_changes_no_answer(checkpoint: Maker, monkeypatch, where, times):
    from mlxnb.lm.on_torch.rows import Rows

    pair = mlxnb.lm.load(str(checkpoint("qwen3")))
    caches = mlxnb.lm.batch_generate(*pair, [[5, 6]] * 5, max_tokens=2, return_prompt_caches=True).caches
    ask = {"prompt_caches": caches, "max_tokens": LIMITS, "return_token_ids": True, "return_logprobs": True}
    expected = mlxnb.lm.batch_generate(*pair, prompts(), **ask)
    inner, calls, widths = getattr(Rows, where), [0], []

    def short(self, *args):
        calls[0] += 1
        widths.append(len(self.members))
        by_itself = len(self.members) <= (where == "step")  # then it would be an error
        if calls[0] > 1 + (where == "join") and not by_itself and len(struck) < times:
            struck.append(calls[0])
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return inner(self, *args)

    struck: list[int] = []
    monkeypatch.setattr(Rows, where, short)
    got = mlxnb.lm.batch_generate(*pair, prompts(), **ask)
    assert len(struck) == times
    assert got.token_ids == expected.token_ids
    assert [len(row) for row in got.logprobs] == [len(row) for row in expected.logprobs]
    assert max(widths[struck[0] :]) < 5


def test_one_row_that_finds_no_memory_is_an_error_and_the_engine_lives_on(checkpoint: Maker, monkeypatch):
    from mlxnb.lm.on_torch.rows import Rows

    pair = mlxnb.lm.load(str(checkpoint("qwen3")))
    with monkeypatch.context() as patch:
        patch.setattr(Rows, "step", lambda self: (_ for _ in ()).throw(MemoryError("none")))
        with pytest.raises(MemoryError):
            mlxnb.lm.batch_generate(*pair, prompts()[:1])
    assert mlxnb.lm.batch_generate(*pair, prompts()[:1], max_tokens=2).texts


def test_a_model_whose_rows_cannot_share_a_step_answers_one_after_the_other(checkpoint: Maker, capsys):
    pair = mlxnb.lm.load(str(checkpoint("phi3-longrope")))
    got = mlxnb.lm.batch_generate(*pair, prompts(), max_tokens=LIMITS, return_token_ids=True, verbose=True)
    assert got.token_ids == [alone(pair, *ask) for ask in zip(prompts(), LIMITS, strict=True)]
    assert "One after the other: LongRoPE" in capsys.readouterr().out
    assert got.stats.generation_steps == got.stats.generation_tokens


def test_verbose_prints_what_mlx_lm_prints(ours, theirs, capsys):
    mlx_lm = pytest.importorskip("mlx_lm")
    said = []
    for engine, pair in ((mlxnb.lm, ours), (mlx_lm, theirs)):
        engine.batch_generate(*pair, [[201, 202], [203]], max_tokens=[3, 5], verbose=True)
        said.append(re.sub(r"\d+\.\d{3}", "N", capsys.readouterr().out))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"prompts": [[1], []]}, EmptyPromptError, "no tokens"),
        ({"prompts": [[1], [4096]]}, ValueError, "token 4096"),
        ({"max_tokens": 0}, OptionError, "max_tokens is 0"),
        ({"max_tokens": [1, "2"]}, OptionError, "max_tokens is '2'"),
        ({"completion_batch_size": 0}, OptionError, "completion_batch_size is 0"),
        ({"prompt_caches": [["no cache"], ["none"]]}, OptionError, "prompt_cache holds a str"),
    ],
)
def test_bad_input_is_refused_by_name(checkpoint: Maker, options, error, said):
    pair = mlxnb.lm.load(str(checkpoint("qwen3")))
    with pytest.raises(error, match=said):
        mlxnb.lm.batch_generate(*pair, **{"prompts": [[1], [2]], **options})
    assert mlxnb.lm.batch_generate(*pair, [], max_tokens=3).texts == []
