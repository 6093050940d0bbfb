"""Attention in plain MLX operations, for a quantised KV cache above all; works on Metal, CUDA and CPU builds alike.

Every path takes the arguments of `attention`. Which is for what:

- `over_codes`: quantised, prefill and decode, CPU. Both products run on the codes in float32; nothing is dequantised.
- `over_dequantised`: quantised or dense, any device. A block is taken to float32 and multiplied there.
- `fused_over_dequantised`: quantised, prefill, Metal and CUDA. All of K and V is dequantised to the queries' dtype, for
  as long as the one layer runs, and goes to MLX's fused attention.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

from ..decision import Accepted, Decision, Rejected
from ..errors import KernelError
from . import blocks, products
from .blocks import Inputs, attend
from .config import AttentionConfig
from .device import device
from .products import Operand, code_scores, code_sums, dense_scores, dense_sums, dequantised

# A measurement of these paths holds for one text of them.
_TEXT = (Path(file).read_bytes() for file in (__file__, blocks.__file__, products.__file__))
VERSION = hashlib.sha256(b"\0".join(_TEXT)).hexdigest()[:12]

BITS, GROUP_SIZES = (4, 8), (32, 64, 128)


def attention(
    queries: Any,
    keys: Any,
    values: Any,
    *,
    scale: float,
    bits: int | None = None,
    group_size: int | None = None,
    mask: Any = None,
    sinks: Any = None,
    block: int | None = None,
) -> Any:
    """softmax(scale · Q Kᵀ + mask) V, by `over_codes` for a quantised cache on a CPU, by `over_dequantised` elsewhere.

    Args:
        queries: [B, heads, L, head_dim].
        keys, values: [B, kv_heads, S, head_dim]; with `bits` triples (packed, scales, biases) in MLX's affine layout.
        scale: factor on the scores.
        bits, group_size: of a quantised cache, 4 or 8 and 32, 64 or 128; both None for a dense one.
        mask: None, "causal" (query i stands at position S − L + i), or an array of rank 2–4 as in `masks.grouped`,
            boolean (True may look) or additive.
        sinks: [heads] logits that take part in the softmax's sum and have no value.
        block: keys in a block; None lets the shape decide.

    Returns [B, heads, L, value head_dim] in the queries' dtype, not yet evaluated. Scores, softmax and sums are
    float32. A query that may look at nothing gives zeros; a score under −1e30 counts as a key it may not look at.

    Raises:
        KernelError: shapes or options that no path takes.
    """
    path = over_codes if bits is not None and device() == "cpu" else over_dequantised
    return path(
        queries, keys, values, scale=scale, bits=bits, group_size=group_size, mask=mask, sinks=sinks, block=block
    )


def takes(config: AttentionConfig, device: str) -> Decision:
    """Whether `attention` computes `config`: everything but a cache that it cannot read."""
    if config.kv_bits is None:
        return Accepted("blockwise", "block by block, in float32")
    if config.kv_bits not in BITS or config.group_size not in GROUP_SIZES or config.head_dim % config.group_size:
        return Rejected("blockwise", f"no cache of {config.kv_bits} bits in groups of {config.group_size}")
    return Accepted("blockwise", "block by block, in float32")


def over_codes(
    queries: Any,
    keys: Any,
    values: Any,
    *,
    scale: float,
    bits: int | None = None,
    group_size: int | None = None,
    **rest: Any,
) -> Any:
    """`attention` on the codes of a quantised cache, block by block."""
    bits, group_size = _quantised(bits, group_size)
    inputs = _inputs(queries, keys, values, scale, bits, group_size, **rest)
    return attend(inputs, code_scores(bits, group_size), code_sums(bits, group_size))


def over_dequantised(
    queries: Any,
    keys: Any,
    values: Any,
    *,
    scale: float,
    bits: int | None = None,
    group_size: int | None = None,
    **rest: Any,
) -> Any:
    """`attention` on blocks in float32, dequantised or cast."""
    if bits is None:
        return attend(_inputs(queries, (keys,), (values,), scale, None, None, **rest), dense_scores, dense_sums)
    bits, group_size = _quantised(bits, group_size)
    inputs = _inputs(queries, keys, values, scale, bits, group_size, **rest)
    return attend(inputs, dequantised(dense_scores, bits, group_size), dequantised(dense_sums, bits, group_size))


def fused_over_dequantised(
    queries: Any,
    keys: Any,
    values: Any,
    *,
    scale: float,
    bits: int | None = None,
    group_size: int | None = None,
    **rest: Any,
) -> Any:
    """`attention` by `mx.fast.scaled_dot_product_attention` over all of K and V in the queries' dtype."""
    import mlx.core as mx

    bits, group_size = _quantised(bits, group_size)
    inputs = _inputs(queries, keys, values, scale, bits, group_size, **rest)
    sides = (inputs.keys, inputs.values)
    dense = [mx.dequantize(p, s, b, group_size, bits).astype(queries.dtype) for p, s, b in sides]
    mask = _fused_mask(inputs)
    sinks = None if inputs.sinks is None else inputs.sinks.astype(queries.dtype)
    out = mx.fast.scaled_dot_product_attention(queries, *dense, scale=scale, mask=mask, sinks=sinks)
    if mask is None or isinstance(mask, str):
        return out
    may_look = mask if mask.dtype == mx.bool_ else mask > -math.inf
    return mx.where(may_look.any(-1, keepdims=True), out, mx.zeros((), out.dtype))


def _fused_mask(inputs: Inputs) -> Any:
    """The mask as MLX's fused attention takes it: in the queries' dtype, an array where some queries see nothing."""
    import mlx.core as mx

    mask, length = inputs.mask, inputs.queries.shape[2]
    if isinstance(mask, str):
        return mx.tri(length, inputs.kv_len, inputs.kv_len - length, dtype=mx.bool_) if length > inputs.kv_len else mask
    return mask if mask is None or mask.dtype == mx.bool_ else mask.astype(inputs.queries.dtype)


def _quantised(bits: int | None, group_size: int | None) -> tuple[int, int]:
    if bits not in BITS or group_size not in GROUP_SIZES:
        raise KernelError(
            f"A cache of {bits} bits in groups of {group_size} was given.",
            f"This path takes {_either(BITS)} bits in groups of {_either(GROUP_SIZES)}.",
        )
    return bits, group_size


def _inputs(
    queries: Any,
    keys: Operand,
    values: Operand,
    scale: float,
    bits: int | None,
    group_size: int | None,
    mask: Any = None,
    sinks: Any = None,
    block: int | None = None,
) -> Inputs:
    """The inputs, once its shapes are known to fit."""
    inputs = Inputs(queries, tuple(keys), tuple(values), scale, mask, sinks, block)
    batch, heads, length, head_dim = queries.shape
    plain = keys[0].shape
    width = plain[3] if bits is None else plain[3] * 32 // bits
    if (plain[0], width) != (batch, head_dim) or heads % plain[1] or values[0].shape[:3] != plain[:3] or plain[2] == 0:
        raise KernelError(
            f"Queries {_shape(queries)}, keys {_shape(keys[0])} and values {_shape(values[0])} do not fit together.",
            "It takes [B, heads, L, head_dim] and twice [B, kv_heads, S, head_dim], heads a multiple of kv_heads.",
        )
    if group_size is not None and head_dim % group_size:
        raise KernelError(
            f"head_dim {head_dim} is no multiple of the group size {group_size}.", "Quantise in smaller groups."
        )
    _check_mask(mask, length, plain[2])
    return inputs


def _check_mask(mask: Any, length: int, kv_len: int) -> None:
    if mask is None or (mask == "causal" if isinstance(mask, str) else _fits(mask, length, kv_len)):
        return
    given = repr(mask) if isinstance(mask, str) else f"of shape {_shape(mask)}"
    raise KernelError(f"The mask is {given}.", f'It takes None, "causal" or an array [..., {length}, {kv_len}].')


def _fits(mask: Any, length: int, kv_len: int) -> bool:
    return mask.ndim >= 2 and mask.shape[-2] in (1, length) and mask.shape[-1] in (1, kv_len)


def _shape(array: Any) -> str:
    return str(list(array.shape))


def _either(options: tuple[int, ...]) -> str:
    return " or ".join(map(str, options))
