"""Prompt caches on torch against mlx-lm's: fed, cut, copied, saved, and read by the other."""

from __future__ import annotations

import copy

import pytest

import mlxnb.lm
from mlxnb.errors import DamagedModelError, OptionError
from mlxnb.lm.models import cache as ours_cache

torch = pytest.importorskip("torch")
mlx_lm = pytest.importorskip("mlx_lm")
from mlx_lm.models import cache as their_cache  # noqa: E402 - after the skip

TURNS = ["What does itertools.chain do?", "And where is sqrt?", "Hi!"]


def turn(tokenizer, words):
    return tokenizer.apply_chat_template([{"role": "user", "content": words}], add_generation_prompt=True)


def conversation(engine, caches, pair, limit):
    """The answers of a chat that keeps its cache, and how many tokens it holds after each turn."""
    cache, answers = caches.make_prompt_cache(pair[0]), []
    for words in TURNS:
        text = engine.generate(*pair, turn(pair[1], words), max_tokens=limit, prompt_cache=cache)
        answers.append((text, cache[0].offset))
    return cache, answers


@pytest.mark.parametrize("limit", [4, 60])
def test_a_conversation_goes_on_as_in_mlx_lm(ours, theirs, limit):
    """The last token of each answer is in the cache too, whether it ended by itself or by its limit."""
    a, b = conversation(mlxnb.lm, ours_cache, ours, limit), conversation(mlx_lm, their_cache, theirs, limit)
    assert a[1] == b[1]
    assert len(a[0]) == len(b[0])


def test_leaving_early_keeps_what_was_given_out(ours, theirs):
    held = []
    for engine, caches, pair in ((mlxnb.lm, ours_cache, ours), (mlx_lm, their_cache, theirs)):
        cache = caches.make_prompt_cache(pair[0])
        answer = engine.stream_generate(*pair, turn(pair[1], TURNS[0]), prompt_cache=cache)
        for _ in range(3):
            next(answer)
        answer.close()
        held.append(cache[0].offset)
    assert held[0] == held[1] == len(turn(ours[1], TURNS[0])) + 3


def test_cutting_takes_the_end_off(ours, theirs):
    prompt = turn(ours[1], TURNS[0])
    texts = []
    for engine, caches, pair in ((mlxnb.lm, ours_cache, ours), (mlx_lm, their_cache, theirs)):
        cache = caches.make_prompt_cache(pair[0])
        assert caches.trim_prompt_cache(cache, 3) == 0
        assert engine.generate(*pair, prompt, max_tokens=6, prompt_cache=cache)
        assert caches.can_trim_prompt_cache(cache)
        assert caches.trim_prompt_cache(cache, 6) == 6
        assert cache[0].offset == len(prompt)
        assert caches.trim_prompt_cache(cache, 1) == 1
        texts.append(engine.generate(*pair, prompt[-1:], max_tokens=12, prompt_cache=cache))
        assert caches.trim_prompt_cache(cache, 10_000) == len(prompt) + 12
        assert cache[0].offset == 0
        texts.append(engine.generate(*pair, prompt, max_tokens=12, prompt_cache=cache))
    assert texts == [texts[0]] * 4
    assert caches.trim_prompt_cache([], 1) == 0
    assert ours_cache.trim_prompt_cache([], 1) == 0


def test_a_copy_is_fed_without_the_other(ours):
    cache = ours_cache.make_prompt_cache(ours[0])
    assert cache[0].empty()
    mlxnb.lm.generate(*ours, turn(ours[1], TURNS[0]), max_tokens=3, prompt_cache=cache)
    before, other = cache[0].offset, copy.deepcopy(cache)
    mlxnb.lm.generate(*ours, turn(ours[1], TURNS[1]), max_tokens=3, prompt_cache=other)
    assert cache[0].offset == before < other[0].offset
    assert other[0].nbytes > cache[0].nbytes > 0


@pytest.mark.parametrize("direction", ["torch to mlx", "mlx to torch", "torch to torch"])
def test_a_file_goes_both_ways(ours, theirs, tmp_path, direction):
    torch_side, mlx_side = (mlxnb.lm, ours_cache, ours), (mlx_lm, their_cache, theirs)
    names = {"torch": torch_side, "mlx": mlx_side}
    (engine, caches, pair), (engine2, caches2, pair2) = (names[word] for word in direction.split(" to "))
    cache = caches.make_prompt_cache(pair[0])
    engine.generate(*pair, turn(pair[1], TURNS[0]), max_tokens=8, prompt_cache=cache)
    file = str(tmp_path / "kept.safetensors")
    caches.save_prompt_cache(file, cache, {"model": "pocket", "note": "two words"})
    read, metadata = caches2.load_prompt_cache(file, return_metadata=True)
    assert metadata == {"model": "pocket", "note": "two words"}
    assert [layer.offset for layer in read] == [layer.offset for layer in cache]
    follow = turn(pair[1], TURNS[1])
    expected = engine.generate(*pair, follow, max_tokens=12, prompt_cache=cache)
    assert engine2.generate(*pair2, follow, max_tokens=12, prompt_cache=read) == expected
    assert len(caches2.load_prompt_cache(file)) == len(cache)


def test_an_empty_cache_is_saved_too(ours, tmp_path):
    ours_cache.save_prompt_cache(str(tmp_path / "none"), ours_cache.make_prompt_cache(ours[0]))
    assert [path.name for path in tmp_path.iterdir()] == ["none.safetensors"]
    read = ours_cache.load_prompt_cache(str(tmp_path / "none.safetensors"))
    assert all(layer.empty() for layer in read)
    theirs = their_cache.load_prompt_cache(str(tmp_path / "none.safetensors"))
    assert [layer.offset for layer in theirs] == [0] * len(read)
    assert mlxnb.lm.generate(*ours, "Hi", max_tokens=3, prompt_cache=read)


def test_what_is_no_cache_of_this_model_is_refused(ours, checkpoint, tmp_path, theirs):
    other = mlxnb.lm.load(str(checkpoint("llama")))
    cache = ours_cache.make_prompt_cache(other[0])
    mlxnb.lm.generate(*other, "Hi", max_tokens=2, prompt_cache=cache)
    with pytest.raises(OptionError, match=r"The prompt cache is not for .*: it has 3 layers and the model"):
        mlxnb.lm.generate(*ours, "Hi", prompt_cache=cache)
    several = [copy.deepcopy(cache[0]) for _ in ours_cache.make_prompt_cache(ours[0])]
    with pytest.raises(OptionError, match=r"its keys are of 2 heads by 32, the model's of"):
        mlxnb.lm.generate(*ours, "Hi", prompt_cache=several)
    with pytest.raises(OptionError, match="prompt_cache holds a KVCache"):
        mlxnb.lm.generate(*ours, "Hi", prompt_cache=their_cache.make_prompt_cache(theirs[0]))
    with pytest.raises(ValueError, match="max_kv_size is 64"):
        ours_cache.make_prompt_cache(ours[0], 64)


def test_windows_and_recurrent_states_can_be_used_but_not_saved(checkpoint, tmp_path):
    model, tokenizer = mlxnb.lm.load(str(checkpoint("mistral-window")))
    cache = ours_cache.make_prompt_cache(model)
    mlxnb.lm.generate(model, tokenizer, "a b c", max_tokens=4, prompt_cache=cache)
    whole = ours_cache.can_trim_prompt_cache(cache)
    mlxnb.lm.generate(model, tokenizer, "one two three four five", max_tokens=30, prompt_cache=cache)
    assert whole
    assert not ours_cache.can_trim_prompt_cache(cache)  # the window of 12 has moved on
    assert ours_cache.trim_prompt_cache(cache, 2) == 0
    with pytest.raises(ValueError, match="DynamicSlidingWindowLayer cannot be saved"):
        ours_cache.save_prompt_cache(str(tmp_path / "x"), cache)
    assert list(tmp_path.iterdir()) == []


def test_files_that_hold_no_cache(tmp_path, theirs):
    with pytest.raises(FileNotFoundError):
        ours_cache.load_prompt_cache(str(tmp_path / "absent.safetensors"))
    (tmp_path / "bad.safetensors").write_bytes(b"not a cache at all")
    with pytest.raises(DamagedModelError, match="holds no prompt cache"):
        ours_cache.load_prompt_cache(str(tmp_path / "bad.safetensors"))
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(DamagedModelError, match="names no layer"):
        ours_cache.load_prompt_cache(str(tmp_path / "weights.safetensors"))
    rotating = their_cache.make_prompt_cache(theirs[0], max_kv_size=8)
    mlx_lm.generate(*theirs, "Hi there", max_tokens=2, prompt_cache=rotating)
    their_cache.save_prompt_cache(str(tmp_path / "rotating.safetensors"), rotating)
    with pytest.raises(ValueError, match="layer 0 is a RotatingKVCache, which only MLX reads"):
        ours_cache.load_prompt_cache(str(tmp_path / "rotating.safetensors"))


@pytest.mark.parametrize("at", [0, 1, 3])
def test_memory_that_runs_short_loses_nothing_of_a_cache(checkpoint, at):
    """In the first piece of a prompt, in the second, and at the second step behind it."""
    from tests.backends.test_short_of_memory import short

    pair = mlxnb.lm.load(str(checkpoint("qwen3")))
    model = pair[0].run(lambda loaded: loaded)
    model._prefill_step = 20
    first, then, answers = list(range(5, 40)), list(range(50, 90)), []
    for times in (0, 1):
        cache = ours_cache.make_prompt_cache(pair[0])
        mlxnb.lm.generate(*pair, first, max_tokens=3, prompt_cache=cache)
        with short(model.model.model.layers[1].mlp, at, times, MemoryError) as struck:
            got = [r.token for r in mlxnb.lm.stream_generate(*pair, then, max_tokens=6, prompt_cache=cache)]
        assert struck == [times]
        answers.append((got, [layer.offset for layer in cache]))
    assert answers[0] == answers[1]


def test_a_cache_that_cannot_be_made_anew_is_an_error_where_memory_runs_short(checkpoint):
    from mlxnb.errors import GenerationError
    from tests.backends.test_short_of_memory import short

    pair = mlxnb.lm.load(str(checkpoint("mistral-window")))
    model = pair[0].run(lambda loaded: loaded)
    cache = ours_cache.make_prompt_cache(pair[0])
    mlxnb.lm.generate(*pair, list(range(5, 40)), max_tokens=3, prompt_cache=cache)
    with (
        short(model.model.model.layers[1].mlp, 0, 1, MemoryError),
        pytest.raises(GenerationError, match="prompt cache"),
    ):
        mlxnb.lm.generate(*pair, list(range(50, 90)), max_tokens=3, prompt_cache=cache)
    assert mlxnb.lm.generate(*pair, list(range(50, 90)), max_tokens=3)
