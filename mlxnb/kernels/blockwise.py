"""Attention in plain MLX operations, for a quantised KV cache above all; works on Metal, CUDA and CPU builds alike.

Which path is for what:

- `over_codes`: quantised, prefill and decode, CPU. Both products run on the codes in float32; nothing is dequantised.
- `over_dequantised`: quantised or dense, any device. A block is taken to float32 and multiplied there.
- `fused_over_dequantised`: quantised, prefill, Metal and CUDA. All of K and V is dequantised to the queries' dtype, for
  as long as the one layer runs, and goes to MLX's fused attention.

Each computes a Call: softmax(scale · Q Kᵀ + mask) V as [B, heads, L, value head_dim] in the queries' dtype, not yet
evaluated. A query that may look at nothing gives zeros. In the two that go block by block, scores, softmax and sums are
float32, and a score under −1e30 counts as a key that a query may not look at. KernelError says what does not fit.
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
from .call import Array, Call
from .config import AttentionConfig
from .products import code_scores, code_sums, dense_scores, dense_sums, dequantised

# A measurement of these paths holds for one text of them.
_TEXT = (Path(file).read_bytes() for file in (__file__, blocks.__file__, products.__file__))
VERSION = hashlib.sha256(b"\0".join(_TEXT)).hexdigest()[:12]

BITS, GROUP_SIZES = (4, 8), (32, 64, 128)


def takes(config: AttentionConfig, device: str) -> Decision:
    """Whether a path here computes `config`: everything but a cache that it cannot read."""
    if config.kv_bits is None:
        return Accepted("blockwise", "block by block, in float32")
    if config.kv_bits not in BITS or config.group_size not in GROUP_SIZES or config.head_dim % config.group_size:
        return Rejected("blockwise", f"no cache of {config.kv_bits} bits in groups of {config.group_size}")
    return Accepted("blockwise", "block by block, in float32")


def over_codes(call: Call, block: int | None = None) -> Array:
    """On the codes of a quantised cache, in blocks of `block` keys; None lets the shape decide."""
    packing = _packing(call)
    return attend(_inputs(call, block), code_scores(*packing), code_sums(*packing))


def over_dequantised(call: Call, block: int | None = None) -> Array:
    """On blocks in float32, dequantised or cast."""
    if call.bits is None:
        return attend(_inputs(call, block), dense_scores, dense_sums)
    packing = _packing(call)
    return attend(_inputs(call, block), dequantised(dense_scores, *packing), dequantised(dense_sums, *packing))


def fused_over_dequantised(call: Call) -> Array:
    """By `mx.fast.scaled_dot_product_attention` over all of K and V in the queries' dtype."""
    import mlx.core as mx

    bits, group_size = _packing(call)
    inputs, dtype = _inputs(call), call.queries.dtype
    dense = [mx.dequantize(p, s, b, group_size, bits).astype(dtype) for p, s, b in (call.keys, call.values)]
    mask = _fused_mask(inputs)
    sinks = None if call.sinks is None else call.sinks.astype(dtype)
    out = mx.fast.scaled_dot_product_attention(call.queries, *dense, scale=call.scale, mask=mask, sinks=sinks)
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


def _packing(call: Call) -> tuple[int, int]:
    """Bits and group size of a quantised cache."""
    if call.bits not in BITS or call.group_size not in GROUP_SIZES:
        raise KernelError(
            f"A cache of {call.bits} bits in groups of {call.group_size} was given.",
            f"This path takes {_either(BITS)} bits in groups of {_either(GROUP_SIZES)}.",
        )
    return call.bits, call.group_size


def _inputs(call: Call, block: int | None = None) -> Inputs:
    """The call as `attend` takes it, once its shapes are known to fit."""
    dense = call.bits is None
    keys, values = ((side,) if dense else tuple(side) for side in (call.keys, call.values))
    batch, heads, length, head_dim = call.queries.shape
    plain = keys[0].shape
    width = plain[3] if call.bits is None else plain[3] * 32 // call.bits
    if (plain[0], width) != (batch, head_dim) or heads % plain[1] or values[0].shape[:3] != plain[:3] or plain[2] == 0:
        raise KernelError(
            f"Queries {_shape(call.queries)}, keys {_shape(keys[0])} and values {_shape(values[0])} do not fit "
            "together.",
            "It takes [B, heads, L, head_dim] and twice [B, kv_heads, S, head_dim], heads a multiple of kv_heads.",
        )
    if not dense and head_dim % call.group_size:
        raise KernelError(
            f"head_dim {head_dim} is no multiple of the group size {call.group_size}.", "Quantise in smaller groups."
        )
    _check_mask(call.mask, length, plain[2])
    return Inputs(call.queries, keys, values, call.scale, call.mask, call.sinks, block)


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
