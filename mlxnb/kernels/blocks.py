"""Attention block by block: online softmax in float32 over tiles of queries and blocks of keys, as a lazy MLX graph.

For every tile of queries a maximum m, a sum t and an output o run along; a block with scores S takes them to
m' = max(m, max S), t' = t f + Σ P and o' = o f + P V, with P = 2^(S − m') and f = 2^(m − m') (Milakov and Gimelshein
2018; Rabe and Staats 2021). Scores are in base 2, log2 e being part of the scale: on MLX's CPU build 2^x takes 5 ns
and e^x 13.

MLX starts whatever is ready, and on the CPU it takes memory for some hundred operations ahead of the one that runs.
So each block is made to wait for the one before it, and a step is kept small: a sixteenth of the memory costs no time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .masks import grouped
from .products import Operand, Product

LOG2_E = math.log2(math.e)
FLOOR = -1e30  # below any score a query may look at, and yet it can be subtracted from −∞
TILE_ROWS = 128  # rows of queries to a KV head: enough to make up for preparing a block of keys
SCORES = 1 << 17  # scores in a block, over all heads
MIN_BLOCK, MAX_BLOCK = 128, 4096  # keys


@dataclass(frozen=True, slots=True)
class Inputs:
    """Queries [B, heads, L, head_dim], keys and values as operands of products.py, and what makes scores of them."""

    queries: Any
    keys: Operand
    values: Operand
    scale: float
    mask: Any = None
    sinks: Any = None
    block: int | None = None  # keys; None lets the shape decide

    @property
    def grouping(self) -> tuple[int, int, int]:
        """Batch, KV heads, query heads to each."""
        batch, heads = self.queries.shape[:2]
        kv_heads = self.keys[0].shape[1]
        return batch, kv_heads, heads // kv_heads

    @property
    def kv_len(self) -> int:
        return int(self.keys[0].shape[2])


@dataclass(frozen=True, slots=True)
class Running:
    """What runs along the blocks, for each query: the maximum, the sum of weights, the output not yet divided by it."""

    top: Any
    total: Any
    out: Any


def attend(inputs: Inputs, scores: Product, sums: Product) -> Any:
    """softmax(scale · Q Kᵀ + mask) V as [B, heads, L, value head_dim], in the queries' dtype."""
    import mlx.core as mx

    batch, kv_heads, ratio = inputs.grouping
    heads, length, head_dim = inputs.queries.shape[1:]
    queries = inputs.queries.astype(mx.float32) * (inputs.scale * LOG2_E)
    queries = queries.reshape(batch, kv_heads, ratio, length, head_dim)
    mask = grouped(inputs.mask, heads, kv_heads) if hasattr(inputs.mask, "ndim") else inputs.mask
    done: list[Any] = []
    step = max(1, TILE_ROWS // ratio)
    for start in range(0, length, step):
        tile = queries[:, :, :, start : start + step]
        if done:
            (tile,) = mx.depends([tile], [done[-1]])
        done.append(_tile(inputs, tile, start, mask, scores, sums))
    out = done[0] if len(done) == 1 else mx.concatenate(done, axis=3)
    return out.reshape(batch, heads, length, -1)


def _tile(inputs: Inputs, tile: Any, start: int, mask: Any, scores: Product, sums: Product) -> Any:
    """The output [B, kv_heads, ratio, count, head_dim] of `count` queries, of which the first is number `start`."""
    import mlx.core as mx

    *heads, count, head_dim = tile.shape
    rows = tile.reshape(*heads[:2], heads[2] * count, head_dim)
    running = _sunk(inputs)
    for begin, end in _spans(inputs, start, count):
        keys, values = ([part[:, :, begin:end] for part in side] for side in (inputs.keys, inputs.values))
        if running is not None:
            keys = mx.depends(keys, [running.out])
        found = scores(rows, tuple(keys)).reshape(*heads, count, end - begin)
        barred = _barred(inputs, mask, (start, start + count), (begin, end))
        found = found if barred is None else found + barred
        running = _step(running, found, tuple(values), sums)
    assert running is not None
    return (running.out / mx.where(running.total == 0, 1.0, running.total)).astype(inputs.queries.dtype)


def _spans(inputs: Inputs, start: int, count: int) -> Iterator[tuple[int, int]]:
    """The blocks of keys a tile needs, one at least; under a causal mask none that all its queries come before."""
    batch, kv_heads, ratio = inputs.grouping
    last = inputs.kv_len
    if isinstance(inputs.mask, str):
        last = max(1, last - inputs.queries.shape[2] + start + count)
    block = inputs.block or min(MAX_BLOCK, max(MIN_BLOCK, SCORES // (batch * kv_heads * ratio * count)))
    for begin in range(0, last, block):
        yield begin, min(begin + block, last)


def _barred(inputs: Inputs, mask: Any, queries: tuple[int, int], keys: tuple[int, int]) -> Any:
    """What is added to the scores of these queries and keys, or None: 0 and −∞, or an additive mask in base 2."""
    import mlx.core as mx

    if mask is None:
        return None
    if isinstance(mask, str):
        ahead = inputs.kv_len - inputs.queries.shape[2]  # keys there were before the first query's
        if keys[1] - 1 <= ahead + queries[0]:
            return None
        visible = mx.arange(*keys)[None] <= mx.arange(ahead + queries[0], ahead + queries[1])[:, None]
        return mx.where(visible, 0.0, -math.inf)
    part = _cut(_cut(mask, 3, queries), 4, keys)
    if part.dtype == mx.bool_:
        return mx.where(part, 0.0, -math.inf)
    return part.astype(mx.float32) * LOG2_E


def _cut(mask: Any, axis: int, span: tuple[int, int]) -> Any:
    """The mask's part on one axis, all of it where it has only one entry there for all."""
    return mask if mask.shape[axis] == 1 else mask[(slice(None),) * axis + (slice(*span),)]


def _sunk(inputs: Inputs) -> Running | None:
    """What runs along before the first block: nothing, or the sinks' weights."""
    import mlx.core as mx

    if inputs.sinks is None:
        return None
    _, kv_heads, ratio = inputs.grouping
    sinks = (inputs.sinks.astype(mx.float32) * LOG2_E).reshape(1, kv_heads, ratio, 1, 1)
    top = mx.maximum(sinks, FLOOR)
    return Running(top, mx.power(2.0, sinks - top), mx.zeros((1, 1, 1, 1, 1)))


def _step(running: Running | None, found: Any, values: Operand, sums: Product) -> Running:
    """Take in a block's scores [B, kv_heads, ratio, count, n] and its values."""
    import mlx.core as mx

    *heads, count, keys = found.shape
    top = mx.maximum(found.max(-1, keepdims=True), FLOOR if running is None else running.top)
    weights = mx.power(2.0, found - top)
    total = weights.sum(-1, keepdims=True)
    out = sums(weights.reshape(*heads[:2], heads[2] * count, keys), values).reshape(*heads, count, -1)
    if running is not None:
        fade = mx.power(2.0, running.top - top)
        total, out = running.total * fade + total, running.out * fade + out
    return Running(top, total, out)
