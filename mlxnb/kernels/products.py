"""The two products of attention over one block of a KV cache, quantised or not, in float32.

An operand is a tuple of arrays with the axes [B, kv_heads, S, …]: (dense,) or MLX's affine triple (packed, scales,
biases), where the value of code c is scale · c + bias, one scale and bias to `group_size` values along head_dim.

What was measured on MLX's CPU build (x86-64, one thread, float32): a · bᵀ 3.8 GFLOP/s, a · b with b in rows 4 to 6,
`quantized_matmul(transpose=False)` with 8-bit codes 12, and the same in bfloat16 about 1. So nothing there is ever
multiplied as bfloat16, and codes are never made into floats: even the keys, which lie the wrong way, pay for turning
their bytes around with a single row of queries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Operand = tuple[Any, ...]
Product = Callable[[Any, Operand], Any]

TURNED_GROUP = 64  # keys that share one made-up scale when the codes of the keys are turned around
WIDE_ROWS = 32  # from so many rows on, 4-bit codes are worth widening to bytes (12 GFLOP/s instead of 8)


def dense_scores(queries: Any, keys: Operand) -> Any:
    """Q Kᵀ: [B, kv_heads, rows, n] of queries [B, kv_heads, rows, head_dim] and n keys."""
    import mlx.core as mx

    return queries @ keys[0].astype(mx.float32).swapaxes(-1, -2)


def dense_sums(weights: Any, values: Operand) -> Any:
    """P V: [B, kv_heads, rows, head_dim] of weights [B, kv_heads, rows, n] and n values."""
    import mlx.core as mx

    return weights @ values[0].astype(mx.float32)


def dequantised(product: Product, bits: int, group_size: int) -> Product:
    """The same product with an operand that is first dequantised, to float32."""
    import mlx.core as mx

    def apply(rows: Any, operand: Operand) -> Any:
        packed, scales, biases = operand
        scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
        return product(rows, (mx.dequantize(packed, scales, biases, group_size=group_size, bits=bits),))

    return apply


def code_scores(bits: int, group_size: int) -> Product:
    """Q Kᵀ from the codes: q · k = Σ_g s_g (q_g · c_g) + b_g Σ q_g, over the groups g along head_dim.

    The codes, turned to [head_dim, n], go in as a quantised matrix of their own, whose every scale is 1. Its every bias
    is −2^(bits−1), which takes them to the middle of their range, so that the sum does not cancel.
    """
    import mlx.core as mx

    centre = float(1 << (bits - 1))

    def apply(queries: Any, keys: Operand) -> Any:
        packed, scales, biases = keys
        scales = scales.astype(mx.float32).swapaxes(-1, -2)
        biases = biases.astype(mx.float32).swapaxes(-1, -2) + centre * scales
        codes, count = _turned(packed, bits), packed.shape[2]
        one = mx.ones((*codes.shape[:2], group_size, codes.shape[-1] * 4 // TURNED_GROUP), mx.float32)
        scores = None
        for group in range(scales.shape[2]):
            at, line = slice(group * group_size, (group + 1) * group_size), slice(group, group + 1)
            part = queries[..., at]
            dots = mx.quantized_matmul(
                part, codes[:, :, at], one, -centre * one, transpose=False, group_size=TURNED_GROUP, bits=8
            )
            dots = dots[..., :count] * scales[:, :, line] + part.sum(-1, keepdims=True) * biases[:, :, line]
            scores = dots if scores is None else scores + dots
        return scores

    return apply


def code_sums(bits: int, group_size: int) -> Product:
    """P V by MLX's quantised product, which dequantises in registers; few rows read 4-bit codes as they are."""
    import mlx.core as mx

    def apply(weights: Any, values: Operand) -> Any:
        packed, scales, biases = values
        width = bits
        if bits == 4 and weights.shape[-2] >= WIDE_ROWS:
            packed, width = mx.view(_bytes(packed, bits), mx.uint32), 8
        scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
        return mx.quantized_matmul(weights, packed, scales, biases, transpose=False, group_size=group_size, bits=width)

    return apply


def _turned(packed: Any, bits: int) -> Any:
    """Packed codes [B, kv_heads, n, …] as 8-bit codes packed along n: [B, kv_heads, head_dim, ⌈n / 64⌉ · 16]."""
    import mlx.core as mx

    rest = -packed.shape[2] % TURNED_GROUP
    codes = _bytes(packed, bits)
    if rest:
        codes = mx.pad(codes, [(0, 0), (0, 0), (0, rest), (0, 0)])
    return mx.view(mx.contiguous(codes.swapaxes(-1, -2)), mx.uint32)


def _bytes(packed: Any, bits: int) -> Any:
    """One byte a code, in order."""
    import mlx.core as mx

    if bits == 8:
        return mx.view(packed, mx.uint8)
    pairs = mx.view(packed, mx.uint8).astype(mx.uint16)
    return mx.view((pairs | (pairs << 4)) & 0x0F0F, mx.uint8)
