"""Random attention calls made by MLX itself, for timing: quick at any length, no answer to hold against."""

from __future__ import annotations

from typing import Any

from .call import Array, Call
from .config import AttentionConfig


def drawn(config: AttentionConfig) -> Call:
    """A call of the shape. It draws from a key of its own, so that a model's random state stays as it is."""
    import mlx.core as mx

    dtype = getattr(mx, config.dtype)
    first, second, third = mx.random.split(mx.random.key(0), 3)
    shape = (config.batch, config.num_kv_heads, config.kv_len, config.head_dim)
    queries = mx.random.normal((config.batch, config.num_heads, config.query_len, config.head_dim), dtype, key=first)
    keys, values = (_cache(mx.random.normal(shape, dtype, key=key), config) for key in (second, third))
    sinks = mx.zeros(config.num_heads, dtype) if config.sinks else None
    mask = _mask(config)
    call = Call(queries, keys, values, config.head_dim**-0.5, mask, sinks, config.kv_bits, config.group_size)
    mx.eval(queries, keys, values, *([mask] if hasattr(mask, "shape") else []))
    return call


def _cache(array: Array, config: AttentionConfig) -> Any:
    import mlx.core as mx

    if config.kv_bits is None:
        return array
    return mx.quantize(array, group_size=config.group_size or 64, bits=config.kv_bits)


def _mask(config: AttentionConfig) -> Array | str | None:
    import mlx.core as mx

    if config.mask in ("none", "causal"):
        return None if config.mask == "none" else "causal"
    own = mx.arange(config.kv_len - config.query_len, config.kv_len)[:, None]
    seen = mx.arange(config.kv_len)[None] <= own
    if config.per_head_mask:
        seen = mx.repeat(seen[None], config.num_heads, axis=0)
    return seen if config.mask == "bool" else mx.where(seen, 0.0, -1e4).astype(getattr(mx, config.dtype))
