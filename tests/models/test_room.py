"""Whether a model fits, and the longest context that does: the sums, held against each other for any shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.models.attention import attention_pattern
from mlxnb.models.fit import MARGIN_BYTES, cache_bytes
from mlxnb.models.room import room
from mlxnb.models.shape import Shape, read_shape

GB = 10**9


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    layers = draw(st.integers(1, 80))
    kept = draw(st.integers(0, layers))
    windowed = draw(st.integers(0, kept))
    window = draw(st.integers(1, 4096)) if windowed else 0
    kv_heads, head_dim = draw(st.integers(1, 16)), draw(st.sampled_from((64, 128, 256)))
    return Shape(layers, 16, kv_heads, head_dim, 2 * kv_heads * head_dim, kept, windowed, window, 0)


@given(
    shapes(),
    st.integers(1, 60 * GB),
    st.integers(0, 100 * GB),
    st.integers(1, 10**6),
    st.one_of(st.none(), st.integers(1, 10**6)),
)
def test_the_longest_context_fits_and_one_token_more_does_not(
    shape: Shape, weights: int, free: int, tokens: int, context: int | None
) -> None:
    has = room(weights, shape, free, tokens=tokens, context=context)
    assert has.tokens == min(tokens, context or tokens)
    left = free - weights * 1.1 - MARGIN_BYTES
    slack = 1e-6 * (free + weights)
    if has.most is None:
        assert context is None
        assert cache_bytes(shape, 10**12) <= left + slack
    else:
        assert has.most <= (context or has.most)
        assert has.most == 0 or cache_bytes(shape, has.most) <= left + slack
        if has.most < (context or float("inf")):
            assert cache_bytes(shape, has.most + 1) > left - slack
    if has.need <= free * 0.9:
        assert has.state == "fits"
    elif has.need <= free:
        assert has.state == "tight"
    else:
        assert has.state == ("no" if has.most is not None and has.most < min(256, has.tokens) else "tight")


def test_the_three_states() -> None:
    shape = read_shape({"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
                        "hidden_size": 4096})  # fmt: skip
    assert cache_bytes(shape, 1) == 131_072
    assert room(16 * GB, shape, 30 * GB, context=131_072).state == "fits"
    short = room(16 * GB, shape, 19 * GB, tokens=32_768, context=131_072)
    assert (short.state, short.most) == ("tight", int((19 * GB - 17.6 * GB - MARGIN_BYTES) / 131_072))
    assert room(16 * GB, shape, 19 * GB).state == "tight"  # with 4,096 tokens: 2 % of the memory would be left
    assert room(16 * GB, shape, 17 * GB).state == "no"
    assert room(16 * GB, shape, 17 * GB).most == 0


def test_a_small_context_is_all_that_is_needed() -> None:
    shape = Shape(1, 1, 1, 64, 128, 1, 0, 0, 0)
    free = int(1.1 * GB + MARGIN_BYTES + 100 * 256)
    assert room(GB, shape, free, tokens=64).state == "tight"
    assert room(GB, shape, free, tokens=1000).state == "no"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8}, "GQA 16:8"),
        ({"num_hidden_layers": 28, "num_attention_heads": 16}, "MHA 16"),
        ({"num_hidden_layers": 28, "num_attention_heads": 16, "multi_query": True}, "MQA 16:1"),
        (
            {"num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1, "sliding_window": 512,
             "layer_types": ["sliding_attention"] * 22 + ["full_attention"] * 4},
            "MQA 4:1, sliding 512 in 22 of 26 layers",
        ),
        (
            {"num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 2,
             "full_attention_interval": 4},
            "GQA 16:2, in 12 of 48 layers",
        ),
        (
            {"model_type": "deepseek_v3", "num_hidden_layers": 61, "num_attention_heads": 128,
             "num_key_value_heads": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128,
             "v_head_dim": 128},
            "MLA 512",
        ),
        (
            {"text_config": {"num_hidden_layers": 4, "num_attention_heads": 4, "kv_lora_rank": 8}},
            "MLA 8",
        ),
        ({"num_hidden_layers": 2, "num_attention_heads": 2, "layer_types": ["linear_attention"] * 2}, "MHA 2"),
        ({}, "none"),
    ],
)  # fmt: skip
def test_attention_in_words(config: dict[str, object], words: str) -> None:
    assert attention_pattern(read_shape(config), config) == words
