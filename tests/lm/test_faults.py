"""What goes wrong around a stream on torch: unloading, interrupts, folders that change, and input that is none."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time

import numpy as np
import pytest

import mlxnb
import mlxnb.lm
from mlxnb.errors import DamagedModelError, GenerationError, MlxnbError, OptionError, PromptError
from mlxnb.lm.models.cache import make_prompt_cache
from tests.tiny import make_checkpoint

torch = pytest.importorskip("torch")
PROMPT = [5, 6, 7, 8]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return make_checkpoint("llama", folder / "a", 0), make_checkpoint("qwen3", folder / "b", 1)


@pytest.fixture
def tiny(two):
    return mlxnb.lm.load(str(two[0]))


def tokens(pair, prompt=PROMPT, **options):
    return [r.token for r in mlxnb.lm.stream_generate(*pair, prompt, **{"max_tokens": 8, **options})]


def test_a_folder_converted_anew_is_another_model(two, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = [tokens(mlxnb.lm.load(str(path))) for path in two]
    shutil.copytree(two[0], "m")
    old, cached = mlxnb.lm.load("m"), mlxnb.lm.load_cached("m")
    assert tokens(old) == tokens(cached) == expected[0]
    shutil.rmtree("m")
    shutil.copytree(two[1], "m")
    with pytest.raises(DamagedModelError, match="changed since it was loaded"):
        tokens(old)
    assert tokens(mlxnb.lm.load("m")) == tokens(mlxnb.lm.load_cached("m")) == expected[1]


def test_a_handle_stays_with_its_folder(two, tmp_path, monkeypatch):
    for place, path in zip("xy", two, strict=True):
        shutil.copytree(path, tmp_path / place / "m")
    pairs = []
    for place in "xy":
        monkeypatch.chdir(tmp_path / place)
        pairs.append(mlxnb.lm.load("m"))
    monkeypatch.chdir(tmp_path)
    mlxnb.engine().unload(str(tmp_path / "x" / "m"))
    assert [tokens(pair) for pair in pairs] == [tokens(mlxnb.lm.load(str(path))) for path in two]


def test_unloading_ends_a_stream_by_name(tiny, two):
    stream = mlxnb.lm.stream_generate(*tiny, PROMPT, max_tokens=20, prompt_cache=make_prompt_cache(tiny[0]))
    made = [next(stream).token for _ in range(3)]
    mlxnb.engine().unload(str(two[0]))
    with pytest.raises(GenerationError, match="was unloaded while it was answering"):
        next(stream)
    assert made == tokens(tiny, max_tokens=20)[:3]
    stream = mlxnb.lm.stream_generate(*tiny, PROMPT, max_tokens=20, prompt_cache=make_prompt_cache(tiny[0]))
    next(stream)
    mlxnb.engine().unload(str(two[0]))
    stream.close()


def interrupting(token):
    """A sampler that interrupts the main thread while it draws a token, the first being 1."""
    drawn = []

    def sampler(logprobs):
        drawn.append(1)
        if len(drawn) == token:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.2)
        return logprobs.argmax(-1)

    return sampler


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system cannot interrupt a thread")
def test_an_interrupt_leaves_no_token_in_the_cache_that_nobody_got(tiny):
    """It comes while the main thread waits for the fifth token, which is drawn all the same."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where Python was started in the background
    for _ in range(5):  # Python drops one that comes while it runs a destructor
        cache, given, interrupted = make_prompt_cache(tiny[0]), [], False
        stream = mlxnb.lm.stream_generate(*tiny, PROMPT, max_tokens=50, sampler=interrupting(5), prompt_cache=cache)
        try:
            given.extend(response.token for response in stream)
        except KeyboardInterrupt:
            interrupted = True
            break
    assert interrupted
    assert len(given) == 4
    assert cache[0].offset == len(PROMPT) + len(given)
    assert tokens(tiny, [9, 10], prompt_cache=cache) == tokens(tiny, [*PROMPT, *given, 9, 10])


@pytest.mark.parametrize("prompt", [None, 5, b"ab", [True], [1.0], [[1, 2]], ["a"], {5: 6}, [None], [-1], [10**9]])
def test_a_prompt_that_is_none_is_a_prompt_error(tiny, prompt):
    with pytest.raises(PromptError):
        tokens(tiny, prompt)


def test_half_a_character_is_a_prompt_error(tiny):
    with pytest.raises(PromptError, match=r"The prompt holds half of a character, U\+D800 at position 2"):
        tokens(tiny, "a \ud800 b")
    assert tokens(tiny, "a b")


@pytest.mark.parametrize("prompt", [[np.int64(5), np.int32(6)], np.array([5, 6]), torch.tensor([5, 6]), (5, 6)])
def test_whole_numbers_of_any_kind_are_a_prompt(tiny, prompt):
    assert tokens(tiny, prompt) == tokens(tiny, [5, 6])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_tokens": 1.5}, "max_tokens is 1.5"),
        ({"max_tokens": "3"}, "max_tokens is '3'"),
        ({"prefill_step_size": 0}, "prefill_step_size is 0"),
        ({"prefill_step_size": None}, "prefill_step_size is None"),
        ({"sampler": lambda logprobs: torch.tensor([99999])}, "The sampler gave the token 99999"),
        ({"sampler": lambda logprobs: torch.tensor([-1])}, "The sampler gave the token -1"),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(tiny, options, said):
    with pytest.raises(OptionError, match=said):
        tokens(tiny, **options)
    assert tokens(tiny)


@pytest.mark.parametrize("ids", [[[5000]], [[-1]], [[1.5]], [[]], [1, 2]])
def test_a_model_is_called_with_its_own_ids(tiny, ids):
    with pytest.raises(MlxnbError):
        tiny[0](torch.tensor(ids))


def test_many_threads_load_one(two, monkeypatch):
    monkeypatch.setattr("mlxnb.lm.choice._kept", {})
    got = []
    threads = [threading.Thread(target=lambda: got.append(mlxnb.lm.load_cached(str(two[1])))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4
    assert len({id(model) for model, _ in got}) == 1


def test_a_changed_file_is_seen_by_load_cached(two, tmp_path):
    shutil.copytree(two[0], tmp_path / "m")
    first = mlxnb.lm.load_cached(str(tmp_path / "m"))
    os.utime(tmp_path / "m" / "config.json", ns=(1, 1))
    assert mlxnb.lm.load_cached(str(tmp_path / "m"))[0] is not first[0]
