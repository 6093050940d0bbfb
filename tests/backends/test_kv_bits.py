"""A quantised KV cache: used where it can be, and said plainly where it is not."""

from __future__ import annotations

import pytest

from mlxnb import Request
from mlxnb.backends.base import Watch
from mlxnb.backends.mlx_cache import group_size
from mlxnb.errors import OptionError
from tests.tiny import make_checkpoint

PROMPT = "What does itertools.chain do?"


def test_eight_bits_give_the_dense_caches_answer_and_the_result_says_so(engine):
    dense = engine.generate(PROMPT, backend="mlx", max_tokens=24)
    eight = engine.generate(PROMPT, backend="mlx", max_tokens=24, kv_bits=8)
    assert eight.tokens == dense.tokens
    assert (eight.provenance.kv_bits, eight.provenance.kv_group_size) == (8, 64)
    assert dense.provenance.kv_bits is None


def test_the_caches_of_a_generation_really_are_quantised(engine):
    from mlx_lm.models.cache import QuantizedKVCache

    request = Request.of(PROMPT, kv_bits=4)
    state = engine.call_with("pocket", lambda model: model.new_state(request, Watch()), "mlx")
    assert [type(cache) for cache in state] == [QuantizedKVCache] * 4


def test_torch_says_that_it_keeps_its_dtype_and_strict_refuses(engine):
    result = engine.generate(PROMPT, backend="torch", max_tokens=4, kv_bits=8)
    assert result.provenance.kv_bits is None
    assert any("kv_bits 8 not used" in note for note in result.provenance.notes)
    with pytest.raises(OptionError, match="v_bits 8 not used"):
        engine.generate(PROMPT, backend="torch", max_tokens=4, kv_bits=8, strict=True)


def test_a_head_dim_that_cannot_be_grouped_is_said(engine, tmp_path):
    path = make_checkpoint("qwen2", tmp_path / "narrow")
    result = engine.generate("a", model=str(path), backend="mlx", raw=True, max_tokens=2, kv_bits=8)
    assert result.provenance.kv_bits is None
    assert any("head_dim of 16 cannot be grouped" in note for note in result.provenance.notes)


@pytest.mark.parametrize(
    ("head_dim", "asked", "size"), [(64, None, 64), (96, None, 32), (80, None, None), (64, 32, 32)]
)
def test_the_group_size_is_the_largest_that_divides(head_dim, asked, size):
    assert group_size(head_dim, asked) == size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_bits": 5}, "kv_bits is 5"),
        ({"kv_bits": 16}, "kv_bits is 16"),
        ({"kv_bits": 8, "kv_group_size": 48}, "kv_group_size is 48"),
        ({"kv_group_size": 64}, "without kv_bits"),
    ],
)
def test_other_bits_and_groups_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        Request.of("x", **options)
