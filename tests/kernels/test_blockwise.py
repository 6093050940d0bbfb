"""The paths in plain MLX operations, against float64 and against the stock path on the same inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import mlxnb.pocket
from mlxnb.errors import KernelError
from mlxnb.kernels import blockwise, reference, stock
from mlxnb.kernels.call import Call
from mlxnb.kernels.config import AttentionConfig

mx = pytest.importorskip("mlx.core")
pytest.importorskip("mlx_lm")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from mlx_lm.models.base import create_causal_mask, scaled_dot_product_attention  # noqa: E402

EPSILON = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-23}
# What summing adds to the rounding of the result, in units of it: hardly anything in 16 bits, sums of 300 in float32.
SLACK = {"bfloat16": 1.0, "float16": 1.0, "float32": 16.0}
IN_BLOCKS: dict[str, Callable[..., Any]] = {
    "over_codes": blockwise.over_codes,
    "over_dequantised": blockwise.over_dequantised,
}
PATHS = IN_BLOCKS | {"fused_over_dequantised": blockwise.fused_over_dequantised}
BLOCKS = [(path, block) for path in IN_BLOCKS for block in (None, 16)] + [("fused_over_dequantised", None)]


@dataclass(frozen=True)
class Shape:
    """One drawn attention call; `mask` is a layout of `make_mask`."""

    batch: int
    kv_heads: int
    ratio: int
    length: int
    kv_len: int
    head_dim: int
    dtype: str
    bits: int
    group_size: int
    mask: str
    sinks: bool
    block: int | None
    seed: int

    @property
    def heads(self) -> int:
        return self.kv_heads * self.ratio


MASKS = ("none", "causal", "window", "bool 2", "bool 3", "bool 4", "additive 2", "additive 3", "additive 4", "bias")


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    group_size = draw(st.sampled_from([32, 64]))
    length = draw(st.sampled_from([1, 2, 5, 33, 70]))
    return Shape(
        batch=draw(st.integers(1, 3)),
        kv_heads=draw(st.integers(1, 3)),
        ratio=draw(st.sampled_from([1, 2, 3, 4, 8])),
        length=length,
        kv_len=length + draw(st.integers(0, 270)),
        head_dim=group_size * draw(st.integers(1, 256 // group_size)),
        dtype=draw(st.sampled_from(list(EPSILON))),
        bits=draw(st.sampled_from([4, 8])),
        group_size=group_size,
        mask=draw(st.sampled_from(MASKS)),
        sinks=draw(st.booleans()),
        block=draw(st.sampled_from([None, 1, 32, 100])) if length < 33 else draw(st.sampled_from([None, 64, 130])),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


@dataclass(frozen=True)
class Problem:
    """A call, and what float64 makes of it."""

    call: Call
    expected: np.ndarray

    def error(self, out: Any) -> float:
        """Norm of the difference to the float64 result, relative to the norm of that."""
        found = np.array(out.astype(mx.float32), dtype=np.float64)
        assert found.shape == self.expected.shape
        return float(np.linalg.norm(found - self.expected) / np.linalg.norm(self.expected))

    def run(self, path: Any, **more: Any) -> Any:
        out = path(self.call, **more)
        assert out.dtype == self.call.queries.dtype
        return out


def make_mask(shape: Shape, random: np.random.Generator) -> Any:
    """Every query may look at one key at least."""
    if shape.mask in ("none", "causal"):
        return None if shape.mask == "none" else "causal"
    if shape.mask == "window":
        return create_causal_mask(shape.length, shape.kv_len - shape.length, window_size=20)
    if shape.mask == "bias":  # of every key, whatever the query
        return mx.array(random.normal(size=(shape.heads, 1, shape.kv_len)))
    kind, rank = shape.mask.split()
    sizes = (shape.batch, shape.heads, shape.length, shape.kv_len)[-int(rank) :]
    may_look = random.random(sizes) < 0.6
    np.put_along_axis(may_look, random.integers(0, shape.kv_len, (*sizes[:-1], 1)), True, axis=-1)
    if kind == "bool":
        return mx.array(may_look)
    return mx.array(np.where(may_look, random.normal(size=sizes), -math.inf), dtype=mx.float32)


def problem(shape: Shape, quantised: bool = True) -> Problem:
    random = np.random.default_rng(shape.seed)
    dtype = getattr(mx, shape.dtype)

    def normal(*sizes: int) -> Any:
        return mx.array(random.normal(size=sizes)).astype(dtype)

    queries = normal(shape.batch, shape.heads, shape.length, shape.head_dim)
    keys, values = (normal(shape.batch, shape.kv_heads, shape.kv_len, shape.head_dim) for _ in range(2))
    bits = {"bits": shape.bits, "group_size": shape.group_size} if quantised else {}
    mask = make_mask(shape, random)
    sinks = normal(shape.heads) if shape.sinks else None
    if quantised:
        keys, values = (mx.quantize(side, **bits) for side in (keys, values))
    call = Call(queries, keys, values, shape.head_dim**-0.5, mask, sinks, **bits)
    expected = reference.attention(
        _wide(queries),
        *(_wide(_dequantised(side, bits)) for side in (keys, values)),
        scale=call.scale,
        mask=mask if mask is None or isinstance(mask, str) else np.array(mask),
        sinks=None if sinks is None else _wide(sinks),
    )
    return Problem(call, expected)


def _wide(array: Any) -> np.ndarray:
    return np.array(array.astype(mx.float32), dtype=np.float64)


def _dequantised(side: Any, bits: dict[str, int]) -> Any:
    if not bits:
        return side
    packed, scales, biases = side
    return mx.dequantize(packed, scales.astype(mx.float32), biases.astype(mx.float32), **bits)


def stock_is_right(shape: Shape) -> bool:
    """Whether mlx-lm 0.32.2 computes this over a quantised cache: no sinks, no axis of heads in a grouped mask."""
    heads_in_mask = shape.mask[-1] in "34" or shape.mask == "bias"
    return not shape.sinks and not (heads_in_mask and shape.ratio > 1)


def stock_error(case: Problem) -> float:
    mask = case.call.mask
    if mask is not None and not isinstance(mask, str) and mask.dtype != mx.bool_:
        mask = mask.astype(case.call.queries.dtype)
    return case.error(stock.attention(replace(case.call, mask=mask)))


@settings(max_examples=150, deadline=None)
@given(shape=shapes())
def test_as_exact_as_the_dtype_and_no_worse_than_stock(shape: Shape) -> None:
    case = problem(shape)
    rounding = EPSILON[shape.dtype] * SLACK[shape.dtype]
    for path in IN_BLOCKS.values():
        error = case.error(case.run(path, block=shape.block))
        assert error < rounding
        if stock_is_right(shape) and shape.dtype != "float32":
            assert error <= stock_error(case) * 1.02
        elif stock_is_right(shape):
            assert error <= stock_error(case) * 2 + EPSILON["float32"]


@settings(max_examples=50, deadline=None)
@given(shape=shapes())
def test_the_fused_path_is_within_the_rounding_of_scores(shape: Shape) -> None:
    case = problem(shape)
    assert case.error(case.run(blockwise.fused_over_dequantised)) < EPSILON[shape.dtype] * SLACK[shape.dtype] * 6


@settings(max_examples=50, deadline=None)
@given(shape=shapes())
def test_dense_caches(shape: Shape) -> None:
    case = problem(shape, quantised=False)
    error = case.error(case.run(blockwise.over_dequantised, block=shape.block))
    assert error < EPSILON[shape.dtype] * SLACK[shape.dtype]


SMALL = Shape(2, 2, 4, 6, 90, 64, "bfloat16", 8, 64, "none", False, None, 0)


@pytest.mark.parametrize(("path", "block"), BLOCKS)
@pytest.mark.parametrize("kind", ["bool", "additive"])
def test_a_query_that_may_look_at_nothing_gives_zeros(path: str, kind: str, block: int | None) -> None:
    case = problem(SMALL)
    may_look = np.random.default_rng(0).random((2, 8, 6, 90)) < 0.5
    may_look[:, :, 2] = False
    may_look[1, 3] = False
    mask = may_look if kind == "bool" else np.where(may_look, 0, -np.inf).astype(np.float32)
    out = PATHS[path](replace(case.call, mask=mx.array(mask)), **{"block": block} if block else {})
    found = np.array(out.astype(mx.float32))
    assert not found[~may_look.any(-1)].any()
    assert np.isfinite(found).all()
    assert found[may_look.any(-1)].any(-1).all()


@pytest.mark.parametrize("path", PATHS)
def test_causal_with_more_queries_than_keys(path: str) -> None:
    """The first queries come before every key."""
    random = np.random.default_rng(1)
    queries, keys, values = (mx.array(random.normal(size=(1, 2, n, 64)), mx.float32) for n in (150, 40, 40))
    expected = reference.attention(*map(np.array, (queries, keys, values)), scale=0.125, mask="causal")
    sides = [mx.quantize(side, group_size=64, bits=8) for side in (keys, values)]
    found = np.array(PATHS[path](Call(queries, *sides, 0.125, "causal", None, 8, 64)))
    assert not found[:, :, :110].any()
    assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("length", [1, 40])
def test_left_padding_changes_nothing(path: str, length: int) -> None:
    """A batch of a long and a short sequence gives what each gives alone."""
    kv_len, pads = 80, [0, 25]
    random = np.random.default_rng(2)
    queries, keys, values = (
        mx.array(random.normal(size=(2, heads, n, 64))).astype(mx.float16)
        for heads, n in ((8, length), (2, kv_len), (2, kv_len))
    )
    quantised = [mx.quantize(side, group_size=32, bits=4) for side in (keys, values)]
    mask = create_causal_mask(length, kv_len - length, left_padding=mx.array(pads))
    together = PATHS[path](Call(queries, *quantised, 0.125, mask, None, 4, 32))
    for i, pad in enumerate(pads):
        sides = [tuple(part[i : i + 1, :, pad:] for part in side) for side in quantised]
        alone = PATHS[path](Call(queries[i : i + 1], *sides, 0.125, "causal", None, 4, 32))
        assert mx.allclose(together[i : i + 1], alone, rtol=4e-3, atol=2e-3)


@pytest.mark.parametrize("path", IN_BLOCKS)
def test_keys_that_come_after_a_tile_are_not_read(path: str) -> None:
    """A NaN in the last value would reach every tile that multiplies it, even by zero."""
    queries, keys, values = (mx.random.normal((1, heads, 300, 64), key=mx.random.key(heads)) for heads in (4, 1, 2))
    keys = mx.concatenate([keys, keys], axis=1)
    sides = [mx.quantize(side, group_size=64, bits=8) for side in (keys, values)]
    call = Call(queries, *sides, 0.125, "causal", None, 8, 64)
    clean = IN_BLOCKS[path](call, block=50)
    packed, scales, biases = sides[1]
    biases[:, :, -1] = math.nan
    out = IN_BLOCKS[path](replace(call, values=(packed, scales, biases)), block=50)
    first_tile = 64  # 128 rows of two query heads to a KV head
    assert mx.array_equal(out[:, :, :first_tile], clean[:, :, :first_tile])
    assert mx.isnan(out[:, :, -1]).all()


@pytest.mark.parametrize("path", IN_BLOCKS)
def test_memory_stays_far_below_the_scores(path: str) -> None:
    """All scores of this piece of a prompt would be 64 MiB; a few blocks are a fraction of it, however many."""
    queries = mx.random.normal((1, 8, 256, 64))
    sides = [mx.quantize(mx.random.normal((1, 2, 8192, 64)), group_size=64, bits=8) for _ in range(2)]
    mx.eval(queries, sides)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(IN_BLOCKS[path](Call(queries, *sides, 0.125, "causal", None, 8, 64)))
    assert mx.get_peak_memory() - before < 8 * 256 * 8192 * 4 / 3


def test_a_slice_of_a_growing_cache() -> None:
    """mlx-lm's cache hands out views of a longer buffer."""
    from mlx_lm.models.cache import QuantizedKVCache

    cache = QuantizedKVCache(group_size=64, bits=4)
    keys, values = (mx.random.normal((1, 2, 300, 64)) for _ in range(2))
    views = cache.update_and_fetch(keys, values)
    assert cache.keys[0].shape[2] == 512
    queries = mx.random.normal((1, 4, 3, 64))
    whole = [mx.quantize(side, group_size=64, bits=4) for side in (keys, values)]
    for path in IN_BLOCKS.values():
        grown, alone = (path(Call(queries, *sides, 0.125, "causal", None, 4, 64)) for sides in (views, whole))
        assert mx.allclose(grown, alone, atol=1e-6)


@pytest.mark.parametrize("path", IN_BLOCKS)
def test_greedy_tokens_of_the_pocket_model_are_those_of_the_bf16_cache(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlx_lm
    import mlx_lm.models.qwen3 as module
    from mlx_lm.generate import generate_step

    model, tokenizer = mlx_lm.load(str(mlxnb.pocket.path()))
    calls = []

    def attend(queries: Any, keys: Any, values: Any, cache: Any, scale: float, mask: Any, sinks: Any = None) -> Any:
        if not hasattr(cache, "bits"):
            return scaled_dot_product_attention(queries, keys, values, cache, scale, mask, sinks)
        calls.append(queries.shape[2])
        return IN_BLOCKS[path](Call(queries, keys, values, scale, mask, sinks, cache.bits, cache.group_size))

    question = [{"role": "user", "content": "Which functions are in the os module?"}]
    prompt = mx.array(tokenizer.apply_chat_template(question, add_generation_prompt=True))

    def greedy(**options: Any) -> list[int]:
        return [int(token) for token, _ in generate_step(prompt, model, max_tokens=32, prefill_step_size=8, **options)]

    expected = greedy()
    monkeypatch.setattr(module, "scaled_dot_product_attention", attend)
    assert greedy(kv_bits=8, quantized_kv_start=0) == expected
    assert {1, 8} <= set(calls)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"bits": 3}, "3 bits in groups of 64"),
        ({"group_size": 16}, "8 bits in groups of 16"),
        ({"mask": "window"}, "'window'"),
        ({"mask": mx.zeros((6, 91))}, "[6, 91]"),
        ({"mask": mx.zeros((90,))}, "[90]"),
        ({"queries": mx.zeros((2, 7, 6, 64))}, "[2, 7, 6, 64]"),
        ({"queries": mx.zeros((2, 8, 6, 96))}, "[2, 8, 6, 96]"),
        ({"queries": mx.zeros((1, 8, 6, 64))}, "[1, 8, 6, 64]"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_what_does_not_fit_is_said(path: str, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(KernelError) as caught:
        PATHS[path](replace(problem(SMALL).call, **changed))
    assert said in str(caught.value)


def test_takes() -> None:
    config = AttentionConfig(8, 2, 64, 1, 4096, kv_bits=8, group_size=64)
    assert blockwise.takes(config, "cpu")
    assert blockwise.takes(config, "metal")
    assert blockwise.takes(AttentionConfig(8, 2, 80, 1, 4096), "cpu")
    for bad in (
        AttentionConfig(8, 2, 64, 1, 4096, kv_bits=2, group_size=64),
        AttentionConfig(8, 2, 96, 1, 4096, kv_bits=8, group_size=64),
    ):
        assert not blockwise.takes(bad, "cpu")
