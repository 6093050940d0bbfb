"""Attention by the Metal kernels of `metal/`, on Metal or, given the emulator's `metal_kernel`, on a CPU.

Each computes a Call, as [B, heads, L, head_dim] in the queries' dtype. `metal_kernel` is what makes kernels; None is
`mx.fast.metal_kernel`. KernelError says what does not fit, or why `supported.takes` rejects the shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..decision import Rejected
from ..errors import KernelError
from .call import Array, Call
from .config import AttentionConfig
from .masks import grouped
from .source import SOURCES, built
from .supported import DTYPES, takes
from .tiling import splits, tiling

MakeKernel = Callable[..., Any]

_MASKS = {"none": 0, "causal": 1, "bool": 2, "additive": 3}


def decode_quantized(call: Call, metal_kernel: MakeKernel | None = None) -> Array:
    """Attention of 1–8 queries over a quantised KV cache."""
    config = _checked("decode_quantized", call)
    arrays, template = [call.queries, *call.keys, *call.values], [("BITS", call.bits), ("GROUP", call.group_size)]
    return _decode("decode_quantized", call, config, arrays, template, metal_kernel)


def decode_dense(call: Call, metal_kernel: MakeKernel | None = None) -> Array:
    """Attention of 1–8 queries over a dense cache."""
    config = _checked("decode_dense", call)
    arrays, template = [call.queries, call.keys, call.values], [("CACHE", call.keys.dtype)]
    return _decode("decode_dense", call, config, arrays, template, metal_kernel)


def prefill_dense(call: Call, metal_kernel: MakeKernel | None = None) -> Array:
    """Attention of any number of queries over a dense cache."""
    config, queries = _checked("prefill_dense", call), call.queries
    simdgroups = 4 if config.head_dim <= 128 else 2
    template = [
        ("T", queries.dtype), ("DIM", config.head_dim), ("RATIO", config.ratio), ("SIMDGROUPS", simdgroups),
        ("MASK", _MASKS[config.mask]),
    ]  # fmt: skip
    blocks = -(-config.query_len * config.ratio // (8 * simdgroups))
    [out] = _kernel("prefill_dense", metal_kernel)(
        inputs=[queries, call.keys, call.values, _mask(call.mask, config), _scalar(call.scale), _sinks(call)],
        template=template,
        grid=(32 * simdgroups, config.batch * config.num_kv_heads, blocks),
        threadgroup=(32 * simdgroups, 1, 1),
        output_shapes=[queries.shape],
        output_dtypes=[queries.dtype],
    )
    return out


def _checked(name: str, call: Call) -> AttentionConfig:
    """What the choice of a kernel depends on, once the call is known to be one for this kernel."""
    config = call.config
    decision = takes(name, config)
    if isinstance(decision, Rejected):
        raise KernelError(f"{name} cannot compute this: {decision.reason}.", decision.remedy)
    plain = config.kv_bits is None
    wanted = (config.batch, config.num_kv_heads, config.kv_len, config.head_dim * (config.kv_bits or 32) // 32)
    for what, side in (("keys", call.keys), ("values", call.values)):
        array = side if plain else side[0]
        if tuple(array.shape) != wanted:
            raise KernelError(
                f"The {what} have the shape {tuple(array.shape)}.", f"With these queries it takes {wanted}."
            )
        if plain and str(array.dtype).removeprefix("mlx.core.") not in DTYPES:
            raise KernelError(f"The {what} are {array.dtype}.", f"They may be {', '.join(DTYPES)}.")
    return config


def _decode(
    name: str,
    call: Call,
    config: AttentionConfig,
    arrays: list[Array],
    template: list[tuple[str, Any]],
    metal_kernel: MakeKernel | None,
) -> Array:
    """The kernel of that name over splits of the keys, and `combine` over what it leaves."""
    import mlx.core as mx

    height, pairs = config.ratio * config.query_len, config.batch * config.num_kv_heads
    laid = tiling(config.head_dim, height, packed=config.kv_bits is not None)
    parts = splits(config.kv_len, pairs, height)
    masks, logits = _mask(call.mask, config), _sinks(call)
    rows = (config.batch, config.num_heads, config.query_len, parts)
    # A single query sees every key: no other kernel for "causal" then.
    kind = "none" if config.mask == "causal" and config.query_len == 1 else config.mask
    template = [
        *template, ("DIM", config.head_dim), ("RATIO", config.ratio), ("LENGTH", config.query_len),
        ("MASK", _MASKS[kind]), ("LANES", laid.lanes), ("ELEMENTS", laid.elements), ("ROWS", laid.rows),
        ("SIMDGROUPS", laid.simdgroups), ("STAGED", laid.staged),
    ]  # fmt: skip
    partials = _kernel(name, metal_kernel)(
        inputs=[*arrays, masks, _scalar(call.scale)],
        template=template,
        grid=(32 * laid.simdgroups, pairs, parts),
        threadgroup=(32 * laid.simdgroups, 1, 1),
        output_shapes=[(*rows, config.head_dim), rows, rows],
        output_dtypes=[mx.float32] * 3,
    )
    dtype = call.queries.dtype
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


def _sinks(call: Call) -> Array:
    """[heads] logits, minus infinity for every head (one value, stride 0) where there are none."""
    import mlx.core as mx

    sinks, heads = call.sinks, call.queries.shape[1]
    if sinks is None:
        return mx.broadcast_to(mx.array(-mx.inf, dtype=call.queries.dtype), (heads,))
    if tuple(sinks.shape) != (heads,):
        raise KernelError(f"The sinks have the shape {tuple(sinks.shape)}.", f"With these queries it takes {(heads,)}.")
    return sinks
