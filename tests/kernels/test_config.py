"""AttentionConfig reads a call rightly, and names its pattern."""

from __future__ import annotations

import pytest

from mlxnb.kernels import AttentionConfig
from mlxnb.kernels.call import Call


@pytest.mark.parametrize(
    ("heads", "kv_heads", "pattern"), [(8, 8, "MHA"), (16, 4, "GQA-4:1"), (8, 1, "MQA-8:1"), (40, 8, "GQA-5:1")]
)
def test_the_pattern_is_named_from_the_heads(heads, kv_heads, pattern):
    config = AttentionConfig(heads, kv_heads, 64, 1, 128)
    assert config.attention_pattern == pattern
    assert config.ratio == heads // kv_heads
    assert pattern in str(config)


def test_a_call_is_read_from_its_arrays():
    mx = pytest.importorskip("mlx.core")
    queries = mx.zeros((2, 8, 5, 64), mx.float16)
    keys = mx.quantize(mx.zeros((2, 2, 70, 64), mx.float16), group_size=32, bits=4)
    mask = mx.ones((2, 1, 5, 70), mx.bool_)
    config = Call(queries, keys, keys, 0.125, mask, None, 4, 32).config
    assert config == AttentionConfig(8, 2, 64, 5, 70, 2, "float16", 4, 32, "bool")
    assert config.decodes


def test_a_mask_with_heads_is_told_apart():
    mx = pytest.importorskip("mlx.core")
    queries, keys = mx.zeros((1, 8, 9, 64)), mx.zeros((1, 2, 70, 64))
    for shape, with_heads in (((9, 70), False), ((8, 9, 70), True), ((1, 1, 9, 70), False), ((1, 8, 9, 70), True)):
        assert Call(queries, keys, keys, 1.0, mx.zeros(shape)).config.per_head_mask is with_heads
    config = Call(queries, keys, keys, 1.0, "causal", mx.zeros(8)).config
    assert (config.mask, config.sinks, config.decodes) == ("causal", True, False)
