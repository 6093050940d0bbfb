"""A whole generation over a quantised cache with our paths under it: the dense cache's tokens, and no more memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlxnb.decision import Accepted
from mlxnb.kernels import configure_optimizer, patch_mlx_lm
from mlxnb.kernels.dispatch import Choice
from mlxnb.kernels.paths import PATHS

pytest.importorskip("mlx_lm")
PROMPTS = ["What does itertools.chain do?", "Which functions are in the heapq module?", "Show an example of deque."]


class Ours:
    """A Tuner that never takes stock where one of our paths takes the shape."""

    device = "cpu"

    def known(self, config):
        return None

    def measure(self, config):
        path = next((path for path in PATHS if path.takes(config, self.device) and config.kv_bits), None)
        assert path is not None, config
        return Choice(path, Accepted(path.name))

    def stamp(self):
        return "ours"


@pytest.fixture
def patched(engine) -> Iterator[None]:
    configure_optimizer(min_len=1)
    patch = engine.call(lambda: patch_mlx_lm(tuner=Ours()))
    yield
    engine.call(patch.undo)
    configure_optimizer()


@pytest.fixture(scope="module")
def dense(engine) -> dict[str, list[int]]:
    return {p: engine.generate(p, backend="mlx", max_tokens=32).tokens for p in PROMPTS}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_eight_bits_give_the_first_32_tokens_of_the_dense_cache(engine, dense, patched, prompt):
    result = engine.generate(prompt, backend="mlx", max_tokens=32, kv_bits=8)
    assert result.tokens == dense[prompt]
    assert [name for name, _ in result.provenance.attention_calls] == ["over_codes"]


@pytest.mark.parametrize("bits", [4, 8])
def test_the_peak_is_never_above_that_of_a_dense_cache(engine, request, bits):
    prompt = "Which functions are in the heapq module? " * 80
    engine.generate(prompt, backend="mlx", max_tokens=2)
    plain = engine.generate(prompt, backend="mlx", max_tokens=8)
    request.getfixturevalue("patched")
    ours = engine.generate(prompt, backend="mlx", max_tokens=8, kv_bits=bits)
    assert ours.provenance.prompt_tokens > 600
    assert ours.peak_memory <= plain.peak_memory
