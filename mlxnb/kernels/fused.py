"""Attention by the Metal kernels of `metal/`, on Metal or, given the emulator's `metal_kernel`, on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..decision import Rejected
from ..errors import KernelError
from .config import AttentionConfig
from .masks import grouped
from .source import SOURCES, built, kernel_hash
from .supported import DTYPES, takes
from .tiling import splits, tiling

__all__ = ["decode_dense", "decode_quantized", "kernel_hash", "prefill_dense", "takes"]

# MLX arrays have no types here: this layer must import where MLX is absent.
Array = Any
Triple = tuple[Array, Array, Array]
MakeKernel = Callable[..., Any]

_MASKS = {"none": 0, "causal": 1, "bool": 2, "additive": 3}


def decode_quantized(
    queries: Array,
    keys: Triple,
    values: Triple,
    *,
    scale: float,
    bits: int,
    group_size: int,
    mask: Array | str | None = None,
    sinks: Array | None = None,
    metal_kernel: MakeKernel | None = None,
) -> Array:
    """Attention of 1–8 queries over a quantised KV cache: [B, heads, L, head_dim] in the queries' dtype.

    Args:
        queries: [B, heads, L, head_dim].
        keys, values: (packed uint32, scales, biases) of `mx.quantize`, each [B, kv_heads, S, …].
        scale: factor on the scores.
        mask: None, "causal" (the last query at the last key), or an array of rank 2–4, boolean or additive.
        sinks: [heads] logits.
        metal_kernel: what makes kernels; None is `mx.fast.metal_kernel`.

    Raises:
        KernelError: `takes` rejects the shapes.
    """
    config = AttentionConfig.of(queries, keys, mask, sinks, bits, group_size)
    _check("decode_quantized", config, keys[0], values[0])
    arrays = [queries, *keys, *values]
    return _decode(
        "decode_quantized", config, arrays, [("BITS", bits), ("GROUP", group_size)], scale, mask, sinks, metal_kernel
    )


def decode_dense(
    queries: Array,
    keys: Array,
    values: Array,
    *,
    scale: float,
    mask: Array | str | None = None,
    sinks: Array | None = None,
    metal_kernel: MakeKernel | None = None,
) -> Array:
    """Attention of 1–8 queries over a cache [B, kv_heads, S, head_dim]; the rest as in `decode_quantized`."""
    config = AttentionConfig.of(queries, keys, mask, sinks, None, None)
    _check("decode_dense", config, keys, values)
    return _decode(
        "decode_dense", config, [queries, keys, values], [("CACHE", keys.dtype)], scale, mask, sinks, metal_kernel
    )


def prefill_dense(
    queries: Array,
    keys: Array,
    values: Array,
    *,
    scale: float,
    mask: Array | str | None = None,
    sinks: Array | None = None,
    metal_kernel: MakeKernel | None = None,
) -> Array:
    """Attention of any number of queries over a cache [B, kv_heads, S, head_dim]; the rest as in `decode_quantized`."""
    config = AttentionConfig.of(queries, keys, mask, sinks, None, None)
    _check("prefill_dense", config, keys, values)
    simdgroups = 4 if config.head_dim <= 128 else 2
    template = [
        ("T", queries.dtype), ("DIM", config.head_dim), ("RATIO", config.ratio), ("SIMDGROUPS", simdgroups),
        ("MASK", _MASKS[config.mask]),
    ]  # fmt: skip
    blocks = -(-config.query_len * config.ratio // (8 * simdgroups))
    [out] = _kernel("prefill_dense", metal_kernel)(
        inputs=[queries, keys, values, _mask(mask, config), _scalar(scale), _sinks(sinks, queries)],
        template=template,
        grid=(32 * simdgroups, config.batch * config.num_kv_heads, blocks),
        threadgroup=(32 * simdgroups, 1, 1),
        output_shapes=[queries.shape],
        output_dtypes=[queries.dtype],
    )
    return out


def _check(name: str, config: AttentionConfig, keys: Array, values: Array) -> None:
    decision = takes(name, config)
    if isinstance(decision, Rejected):
        raise KernelError(f"{name} cannot compute this: {decision.reason}.", decision.remedy)
    plain = config.kv_bits is None
    wanted = (config.batch, config.num_kv_heads, config.kv_len, config.head_dim * (config.kv_bits or 32) // 32)
    for what, array in (("keys", keys), ("values", values)):
        if tuple(array.shape) != wanted:
            raise KernelError(
                f"The {what} have the shape {tuple(array.shape)}.", f"With these queries it takes {wanted}."
            )
        if plain and str(array.dtype).removeprefix("mlx.core.") not in DTYPES:
            raise KernelError(f"The {what} are {array.dtype}.", f"They may be {', '.join(DTYPES)}.")


def _decode(
    name: str,
    config: AttentionConfig,
    arrays: list[Array],
    template: list[tuple[str, Any]],
    scale: float,
    mask: Array | str | None,
    sinks: Array | None,
    metal_kernel: MakeKernel | None,
) -> Array:
    """The kernel of that name over splits of the keys, and `combine` over what it leaves."""
    import mlx.core as mx

    height, pairs = config.ratio * config.query_len, config.batch * config.num_kv_heads
    laid = tiling(config.head_dim, height, packed=config.kv_bits is not None)
    parts = splits(config.kv_len, pairs, height)
    masks, logits = _mask(mask, config), _sinks(sinks, arrays[0])
    rows = (config.batch, config.num_heads, config.query_len, parts)
    # A single query sees every key: no other kernel for "causal" then.
    kind = "none" if config.mask == "causal" and config.query_len == 1 else config.mask
    template = [
        *template, ("DIM", config.head_dim), ("RATIO", config.ratio), ("LENGTH", config.query_len),
        ("MASK", _MASKS[kind]), ("LANES", laid.lanes), ("ELEMENTS", laid.elements), ("ROWS", laid.rows),
        ("SIMDGROUPS", laid.simdgroups), ("STAGED", laid.staged),
    ]  # fmt: skip
    partials = _kernel(name, metal_kernel)(
        inputs=[*arrays, masks, _scalar(scale)],
        template=template,
        grid=(32 * laid.simdgroups, pairs, parts),
        threadgroup=(32 * laid.simdgroups, 1, 1),
        output_shapes=[(*rows, config.head_dim), rows, rows],
        output_dtypes=[mx.float32] * 3,
    )
    dtype = arrays[0].dtype
    [out] = _kernel("combine", metal_kernel)(
        inputs=[*partials, logits],
        template=[("T", dtype)],
        grid=(config.head_dim, config.batch * config.num_heads * config.query_len, 1),
        threadgroup=(config.head_dim, 1, 1),
        output_shapes=[(*rows[:3], config.head_dim)],
        output_dtypes=[dtype],
    )
    return out


def _kernel(name: str, metal_kernel: MakeKernel | None) -> Any:
    import mlx.core as mx

    assert name in SOURCES
    return built(name, metal_kernel or mx.fast.metal_kernel)


def _scalar(scale: float) -> Array:
    import mlx.core as mx

    return mx.array(scale, dtype=mx.float32)


def _mask(mask: Array | str | None, config: AttentionConfig) -> Array:
    """The mask as [B, KV, ratio, L, S], stride 0 where it broadcasts, nothing copied; a stand-in where none is read."""
    import mlx.core as mx

    if mask is None or isinstance(mask, str):
        return mx.zeros((1, 1, 1, 1, 1), dtype=mx.bool_)
    shape = (config.batch, config.num_kv_heads, config.ratio, config.query_len, config.kv_len)
    wide = grouped(mask, config.num_heads, config.num_kv_heads)
    if any(have not in (1, want) for have, want in zip(wide.shape, shape, strict=True)):
        raise KernelError(
            f"The mask has the shape {tuple(mask.shape)}.",
            f"It takes what broadcasts to {(config.batch, config.num_heads, config.query_len, config.kv_len)}.",
        )
    return mx.broadcast_to(wide, shape)


def _sinks(sinks: Array | None, queries: Array) -> Array:
    """[heads] logits, minus infinity for every head (one value, stride 0) where there are none."""
    import mlx.core as mx

    heads = queries.shape[1]
    if sinks is None:
        return mx.broadcast_to(mx.array(-mx.inf, dtype=queries.dtype), (heads,))
    if tuple(sinks.shape) != (heads,):
        raise KernelError(f"The sinks have the shape {tuple(sinks.shape)}.", f"With these queries it takes {(heads,)}.")
    return sinks
