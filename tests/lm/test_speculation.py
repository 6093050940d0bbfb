"""`draft_model` on torch: greedy answers stay what they are, and each response tells where its token came from."""

from __future__ import annotations

import pytest

import mlxnb.lm
from mlxnb.errors import OptionError
from mlxnb.lm.models.cache import load_prompt_cache, make_prompt_cache, save_prompt_cache
from mlxnb.lm.sample_utils import make_logits_processors, make_sampler
from tests.tiny import Maker, make_checkpoint

torch = pytest.importorskip("torch")

PROMPT = [(37 * i * i + 5) % 4096 for i in range(1, 30)]


@pytest.fixture(scope="module")
def draft(tmp_path_factory):
    """A model of the same vocabulary that guesses badly."""
    return mlxnb.lm.load(str(make_checkpoint("llama", tmp_path_factory.mktemp("draft") / "d", 5)))[0]


def ask(pair, prompt=PROMPT, **options):
    return list(mlxnb.lm.stream_generate(*pair, prompt, **{"max_tokens": 40, **options}))


@pytest.mark.parametrize("family", ["qwen3", "deepseek-v3"])
@pytest.mark.parametrize("width", [0, 1, 2, 5])
def test_greedy_answers_are_those_without_a_draft(checkpoint: Maker, draft, family, width):
    pair = mlxnb.lm.load(str(checkpoint(family)))
    plain = ask(pair)
    own = ask(pair, draft_model=pair[0], num_draft_tokens=width)
    other = ask(pair, draft_model=draft, num_draft_tokens=width)
    for got in (own, other):
        assert [r.token for r in got] == [r.token for r in plain]
        assert "".join(r.text for r in got) == "".join(r.text for r in plain)
        assert got[-1].finish_reason == plain[-1].finish_reason
        assert all(torch.allclose(a.logprobs, b.logprobs, atol=2e-4) for a, b in zip(got, plain, strict=True))
    assert not any(r.from_draft for r in plain)
    guessed = sum(r.from_draft for r in own)
    assert guessed == 0 if width == 0 else guessed >= (len(own) - 1) * width // (width + 1) - width
    assert not own[0].from_draft
    assert sum(r.from_draft for r in other) < len(other) / 2


def test_the_pocket_model_answers_as_mlx_lm_with_its_own_draft(ours, theirs):
    mlx_lm = pytest.importorskip("mlx_lm")
    prompt = ours[1].apply_chat_template([{"role": "user", "content": "Where is sqrt?"}], add_generation_prompt=True)
    a = ask(ours, prompt, draft_model=ours[0], max_tokens=100)
    b = list(mlx_lm.stream_generate(*theirs, prompt, max_tokens=100, draft_model=theirs[0]))
    assert [r.token for r in a] == [r.token for r in b]
    assert (a[-1].finish_reason, a[-1].generation_tokens) == (b[-1].finish_reason, b[-1].generation_tokens)
    assert {r.from_draft for r in a} == {r.from_draft for r in b} == {True, False}


def test_a_conversation_goes_on_with_both_caches_in_one_list(checkpoint: Maker, draft, tmp_path):
    pair = mlxnb.lm.load(str(checkpoint("qwen3")))
    plain, both = make_prompt_cache(pair[0]), make_prompt_cache(pair[0]) + make_prompt_cache(draft)
    own = make_prompt_cache(pair[0]) + make_prompt_cache(pair[0])
    for turn in range(3):
        prompt = [(11 * i + turn) % 4096 for i in range(1, 12)]
        expected = ask(pair, prompt, prompt_cache=plain, max_tokens=10)
        for cache, model in ((both, draft), (own, pair[0])):
            got = ask(pair, prompt, prompt_cache=cache, draft_model=model, max_tokens=10)
            assert [r.token for r in got] == [r.token for r in expected]
            # The last token was given out and is fed with what follows, as mlx-lm does.
            assert {layer.offset for layer in cache} == {plain[0].offset - 1}
        for cache in (both, own):  # so that all three go on from the same text
            last = expected[-1].token
            half = len(plain)
            for layers, model in ((cache[:half], pair[0]), (cache[half:], draft if cache is both else pair[0])):
                model(torch.tensor([[last]]), cache=layers)
        assert sum(r.from_draft for r in got) > 0
    save_prompt_cache(str(tmp_path / "both"), both)
    again = load_prompt_cache(str(tmp_path / "both.safetensors"))
    assert ask(pair, [9], prompt_cache=again, draft_model=draft, max_tokens=4)


def test_processors_and_samplers_choose_every_token(checkpoint: Maker, draft):
    pair = mlxnb.lm.load(str(checkpoint("qwen3")))
    penalty = {"logits_processors": make_logits_processors(repetition_penalty=1.6)}
    plain = ask(pair, **penalty)
    assert [r.token for r in ask(pair, draft_model=draft, **penalty)] == [r.token for r in plain]
    assert [r.token for r in plain] != [r.token for r in ask(pair)]
    torch.manual_seed(3)
    drawn = ask(pair, draft_model=draft, sampler=make_sampler(1.5))
    torch.manual_seed(3)
    assert [r.token for r in ask(pair, sampler=make_sampler(1.5))] == [r.token for r in drawn]


def test_leaving_early_leaves_both_caches_with_what_was_given(checkpoint: Maker, draft):
    pair = mlxnb.lm.load(str(checkpoint("qwen3")))
    cache = make_prompt_cache(pair[0]) + make_prompt_cache(draft)
    answer = mlxnb.lm.stream_generate(*pair, PROMPT, draft_model=draft, prompt_cache=cache)
    for _ in range(4):
        next(answer)
    answer.close()
    assert {layer.offset for layer in cache} == {len(PROMPT) + 3}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"draft_model": object()}, "The model is a builtins.object, not one that mlxnb.lm loaded"),
        ({"num_draft_tokens": -1}, "num_draft_tokens is -1"),
        ({"num_draft_tokens": 1.5}, "num_draft_tokens is 1.5"),
        ({"kv_bits": 4}, "kv_bits is 4"),
        ({"input_embeddings": [1.0]}, "input_embeddings is set"),
        ({"prompt": []}, "no tokens"),
        ({"prompt_cache": []}, "has 0 layers"),
    ],
)
def test_bad_input_is_a_value_error(checkpoint: Maker, draft, options, said):
    pair = mlxnb.lm.load(str(checkpoint("qwen3")))
    with pytest.raises(ValueError, match=said):
        ask(pair, **{"draft_model": draft, **options})
    with pytest.raises(TypeError, match="temperature"):
        ask(pair, draft_model=draft, temperature=1)


@pytest.mark.parametrize("family", ["mistral-window", "qwen3-next", "phi3-longrope"])
def test_a_model_that_cannot_take_tokens_back_is_refused(checkpoint: Maker, draft, family):
    pair = mlxnb.lm.load(str(checkpoint(family)))
    with pytest.raises(OptionError, match=r"draft_model cannot be used|LongRoPE"):
        ask(pair, draft_model=draft)


def test_another_vocabulary_is_refused(checkpoint: Maker, draft, tmp_path):
    import json
    import shutil

    shutil.copytree(checkpoint("llama"), tmp_path / "other")
    file = tmp_path / "other" / "tokenizer.json"
    words = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = words["model"]["vocab"]
    a, b = list(vocabulary)[-2:]
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
    file.write_text(json.dumps(words), encoding="utf-8")
    pair = mlxnb.lm.load(str(checkpoint("qwen3")))
    with pytest.raises(OptionError, match="draft_model cannot be used: its vocabulary is another one"):
        ask(pair, draft_model=mlxnb.lm.load(str(tmp_path / "other"))[0])
