"""Attention in float64, written to be read: what every path is held against."""

from __future__ import annotations

from typing import Any

import numpy as np

from .masks import grouped

Array = np.ndarray[Any, np.dtype[Any]]


def attention(
    queries: Array,
    keys: Array,
    values: Array,
    *,
    scale: float,
    mask: Array | str | None = None,
    sinks: Array | None = None,
) -> Array:
    """softmax(scale · Q Kᵀ + mask) V, computed and returned in float64.

    Args:
        queries: [B, heads, L, head_dim].
        keys, values: [B, kv_heads, S, head_dim]; query head h reads KV head h // (heads / kv_heads).
        scale: factor on the scores.
        mask: None; "causal", where query i stands at position S − L + i; or an array of rank 2–4, boolean (True may
            look) or additive.
        sinks: [heads] logits that take part in the softmax's sum and have no value.

    A query that may look at nothing gives zeros.
    """
    batch, heads, length, head_dim = queries.shape
    kv_heads, kv_len = keys.shape[1:3]
    q = queries.astype(np.float64).reshape(batch, kv_heads, heads // kv_heads, length, head_dim)
    scores = scale * np.einsum("bhgld,bhsd->bhgls", q, keys.astype(np.float64))
    if isinstance(mask, str):
        mask = np.arange(kv_len)[None] <= np.arange(kv_len - length, kv_len)[:, None]
    if mask is not None:
        wide = grouped(mask, heads, kv_heads)
        scores = np.where(wide, scores, -np.inf) if mask.dtype == bool else scores + wide.astype(np.float64)
    top = scores.max(-1, keepdims=True)
    if sinks is not None:
        sink = sinks.astype(np.float64).reshape(1, kv_heads, heads // kv_heads, 1, 1)
        top = np.maximum(top, sink)
    top = np.where(np.isfinite(top), top, 0.0)
    weights = np.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    if sinks is not None:
        total = total + np.exp(sink - top)
    out = np.einsum("bhgls,bhsd->bhgld", weights / np.where(total == 0, 1.0, total), values.astype(np.float64))
    return out.reshape(batch, heads, length, values.shape[-1])
