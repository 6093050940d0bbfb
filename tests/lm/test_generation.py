"""Answers on torch against mlx-lm's, in float32: tokens, text, fields, and what is refused when."""

from __future__ import annotations

import math

import numpy as np
import pytest

import mlxnb
import mlxnb.lm
from mlxnb.errors import OptionError
from mlxnb.lm.sample_utils import make_logits_processors, make_sampler

torch = pytest.importorskip("torch")
mlx_lm = pytest.importorskip("mlx_lm")

QUESTIONS = ["What does itertools.chain do?", "Where is sqrt?", "Tell me about the weather in Paris.", "Hi!"]


def ids(tokenizer, question):
    return tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("limit", [3, 100])
def test_the_same_answer_token_by_token(ours, theirs, question, limit):
    prompt = ids(theirs[1], question)
    assert ids(ours[1], question) == prompt
    a = list(mlxnb.lm.stream_generate(*ours, prompt, max_tokens=limit))
    b = list(mlx_lm.stream_generate(*theirs, prompt, max_tokens=limit))
    assert [r.token for r in a] == [r.token for r in b]
    assert "".join(r.text for r in a) == "".join(r.text for r in b) != ""
    assert [r.finish_reason for r in a] == [r.finish_reason for r in b]
    for name in ("from_draft", "prompt_tokens", "generation_tokens"):
        assert [getattr(r, name) for r in a] == [getattr(r, name) for r in b]
    for x, y in zip(a, b, strict=True):
        assert np.allclose(x.logprobs.numpy(), np.array(y.logprobs), atol=2e-4)
        assert math.isclose(float(x.logprobs.exp().sum()), 1, rel_tol=1e-4)
    assert a[-1].generation_tps > 0 < a[-1].prompt_tps
    assert 0.01 < a[-1].peak_memory < 1000


def test_the_fields_are_mlx_lm_s(ours):
    import dataclasses
    import sys

    [response] = mlxnb.lm.stream_generate(*ours, "Hi", max_tokens=1)
    theirs = dataclasses.fields(sys.modules["mlx_lm.generate"].GenerationResponse)
    assert [(f.name, f.default) for f in dataclasses.fields(response)] == [(f.name, f.default) for f in theirs]


@pytest.mark.parametrize("prompt", ["What is a deque?", "<|im_start|>user\nHi<|im_end|>\n", " café ☃ "])
def test_text_tokens_and_arrays_are_the_same_prompt(ours, theirs, prompt):
    expected = mlx_lm.generate(*theirs, prompt, max_tokens=20)
    assert mlxnb.lm.generate(*ours, prompt, max_tokens=20) == expected
    tokens = ours[1].encode(prompt)
    for same in (tokens, torch.tensor(tokens), np.array(tokens)):
        assert mlxnb.lm.generate(*ours, same, max_tokens=20) == expected
    assert mlxnb.lm.generate(ours[0], ours[1]._tokenizer, prompt, max_tokens=20) == expected  # transformers' own


def test_processors_act_alike(ours, theirs):
    from mlx_lm.sample_utils import make_logits_processors as make_theirs

    prompt = ids(ours[1], QUESTIONS[0])
    for options in (
        {"logit_bias": {66: -5.0, 200: 3.0}},
        {"repetition_penalty": 1.4},
        {"presence_penalty": 2.0, "presence_context_size": 7},
        {"frequency_penalty": 1.0, "repetition_penalty": 0.9},
    ):
        a = mlxnb.lm.generate(*ours, prompt, max_tokens=40, logits_processors=make_logits_processors(**options))
        b = mlx_lm.generate(*theirs, prompt, max_tokens=40, logits_processors=make_theirs(**options))
        assert a == b


def test_functions_of_one_s_own_see_what_mlx_lm_gives(ours):
    seen = []

    def processor(tokens, logits):
        logits[:, 5] = 1e9  # written in place, as mlx-lm's own processors do
        seen.append((tokens.tolist(), tuple(logits.shape)))
        return logits

    def sampler(logprobs):
        seen.append(tuple(logprobs.shape))
        return torch.argmax(logprobs, dim=-1)

    prompt = ids(ours[1], "Hi!")
    got = list(mlxnb.lm.stream_generate(*ours, prompt, max_tokens=3, sampler=sampler, logits_processors=[processor]))
    assert [r.token for r in got] == [5, 5, 5]
    assert seen[0] == (prompt, (1, 4096))
    assert seen[1] == (1, 4096)
    assert seen[2][0] == [*prompt, 5]
    got[0].logprobs[0] = 0  # a tensor of the caller's own


def test_a_sampler_s_error_is_the_caller_s_and_the_engine_lives_on(ours):
    def sampler(_):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        mlxnb.lm.generate(*ours, "Hi", sampler=sampler)
    with pytest.raises(OptionError, match="top_k is 5000"):
        mlxnb.lm.generate(*ours, "Hi", sampler=make_sampler(0.5, top_k=5000))
    assert mlxnb.lm.generate(*ours, "Hi", max_tokens=2)


def test_progress_is_heard_as_from_mlx_lm(ours, theirs):
    prompt, heard = ids(ours[1], "word " * 60), ([], [])
    for engine, pair, calls in ((mlxnb.lm, ours, heard[0]), (mlx_lm, theirs, heard[1])):
        engine.generate(
            *pair, prompt, max_tokens=2, prefill_step_size=16, prompt_progress_callback=lambda *a, c=calls: c.append(a)
        )
    assert heard[0] == heard[1]
    assert heard[0][-1] == (len(prompt), len(prompt))


def test_leaving_early_stops_and_another_generation_may_run_between(ours):
    first = mlxnb.lm.stream_generate(*ours, ids(ours[1], QUESTIONS[0]))
    one = next(first).token
    other = mlxnb.lm.generate(*ours, ids(ours[1], QUESTIONS[1]), max_tokens=5)
    mlxnb.engine().generate("Hi!", model="pocket", backend="torch", max_tokens=3)
    rest = [one, next(first).token, next(first).token]
    first.close()
    assert rest == [r.token for r in mlxnb.lm.stream_generate(*ours, ids(ours[1], QUESTIONS[0]), max_tokens=4)][:3]
    assert other == mlxnb.lm.generate(*ours, ids(ours[1], QUESTIONS[1]), max_tokens=5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"prompt": []}, "no tokens"),
        ({"kv_bits": 4}, "kv_bits is 4: the KV cache is kept in the model's dtype"),
        ({"max_kv_size": 512}, "max_kv_size is 512"),
        ({"input_embeddings": [1.0]}, "input_embeddings is set"),
        ({"draft_model": object()}, "The model is a builtins.object, not one that mlxnb.lm loaded"),
        ({"prompt": [4096]}, "has the token 4096, and .* has 4096 tokens"),
        ({"prompt": [3, -1]}, "has the token -1"),
        ({"prompt": [[1, 2]]}, r"has '\[1, 2\]' among its token ids"),
    ],
)
def test_what_is_refused_is_a_value_error_when_the_first_token_is_asked_for(ours, options, said):
    options = {"prompt": "Hi", **options}
    answer = mlxnb.lm.stream_generate(*ours, **options)  # mlx-lm's is a generator too: nothing happens yet
    with pytest.raises(ValueError, match=said):
        next(answer)


@pytest.mark.parametrize("words", [18, 46, 52])
def test_long_rope_is_begun_anew_beyond_its_border(checkpoint, words):
    """Below the original context of 256 tokens, across it, and beyond it."""
    path, prompt = str(checkpoint("phi3-longrope")), "one two three four five " * words
    pair = mlxnb.lm.load(path)
    expected = mlxnb.engine().generate(prompt, model=path, backend="torch", raw=True, max_tokens=40, cache="off")
    got = list(mlxnb.lm.stream_generate(*pair, prompt, max_tokens=40))
    assert [r.token for r in got][: len(expected.tokens)] == expected.tokens
    assert len(expected.tokens) > 20
    if words == 46:
        from mlxnb.lm.models.cache import make_prompt_cache

        with pytest.raises(ValueError, match="would outgrow 256 tokens"):
            mlxnb.lm.generate(*pair, prompt, max_tokens=40, prompt_cache=make_prompt_cache(pair[0]))


def test_unknown_options_are_type_errors_in_both(ours, theirs):
    for engine, pair in ((mlxnb.lm, ours), (mlx_lm, theirs)):
        with pytest.raises(TypeError, match="temperature"):
            engine.generate(*pair, "Hi", temperature=0.5)


def test_verbose_prints_what_mlx_lm_prints(ours, theirs, capsys):
    import re

    prompt = ids(ours[1], "Where is sqrt?")
    said = []
    for engine, pair in ((mlxnb.lm, ours), (mlx_lm, theirs)):
        assert engine.generate(*pair, prompt, verbose=True)
        said.append(re.sub(r"\d+\.\d{3}", "N", capsys.readouterr().out))
    assert said[0] == said[1]
    end = [ours[1].eos_token_id]

    def stop(logprobs):
        return torch.tensor(end)

    assert mlxnb.lm.generate(*ours, prompt, verbose=True, sampler=stop) is None
    assert "No text generated" in capsys.readouterr().out


def test_a_model_of_mlx_lm_s_is_not_taken_for_ours(theirs):
    with pytest.raises(OptionError, match=r"The model is a mlx_lm\.models\..* not one that mlxnb\.lm loaded"):
        mlxnb.lm.generate(*theirs, "Hi")


def test_calling_the_model_gives_logits(ours, theirs):
    import mlx.core as mx

    tokens = ours[1].encode("import itertools")
    logits = ours[0](torch.tensor([tokens]))
    assert np.allclose(logits.numpy(), np.array(theirs[0](mx.array([tokens]))), atol=1e-3)
    with pytest.raises(OptionError, match="batch, length"):
        ours[0](torch.tensor(tokens))


def test_batches_are_one_answer_each_in_order(ours, theirs, capsys):
    import sys

    prompts = [ids(ours[1], question) for question in QUESTIONS]
    a = mlxnb.lm.batch_generate(*ours, prompts, max_tokens=[5, 9, 100, 7], return_token_ids=True, return_logprobs=True,
                                return_prompt_caches=True, verbose=True)  # fmt: skip
    b = mlx_lm.batch_generate(*theirs, prompts, max_tokens=[5, 9, 100, 7], return_token_ids=True, return_logprobs=True)
    assert a.token_ids == b.token_ids
    assert a.texts == b.texts
    assert all(np.allclose(x, y, atol=1e-3) for x, y in zip(a.logprobs, b.logprobs, strict=True))
    assert a.stats.generation_tokens == b.stats.generation_tokens
    assert a.stats.prompt_tokens == b.stats.prompt_tokens  # the last token of each counts as decoding
    assert "Finished processing 4/4" in capsys.readouterr().out
    names = {n for n in dir(sys.modules["mlx_lm.generate"].BatchStats()) if not n.startswith("_")}
    assert names <= {n for n in dir(a.stats) if not n.startswith("_")}
    again = mlxnb.lm.batch_generate(*ours, [[201], [201]], prompt_caches=a.caches[:2], max_tokens=4)
    assert again.texts == mlxnb.lm.batch_generate(*ours, [[201], [201]], prompt_caches=a.caches[:2], max_tokens=4).texts
    with pytest.raises(ValueError, match="3 max_tokens"):
        mlxnb.lm.batch_generate(*ours, prompts, max_tokens=[1, 2, 3])
    with pytest.raises(TypeError, match="temperature"):
        mlxnb.lm.batch_generate(*ours, prompts, temperature=1)
