"""Counts, in the emulator, the bytes that a decode kernel moves and the time that one decode takes there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import fused
from .call import Call
from .cases import Case
from .problem import problem
from .source import built

RATIOS = (1, 2, 4, 8, 16)
KEYS = 256
HEAD_DIM = 128

# The buffers that hold K and V.
_CACHE = ("keys", "key_scales", "key_biases", "values", "value_scales", "value_biases")


@dataclass(frozen=True, slots=True)
class Row:
    """K and V bytes that a kernel read, each in multiples of the bytes that exist.

    Attributes:
        kernel: its name; `decode_per_head` is the baseline, one threadgroup to a query head.
        ratio: query heads to one KV head.
        total: all reads.
        unique: different bytes.
        per_threadgroup: different bytes within each threadgroup, summed: what remains if a cache serves a threadgroup's
            repeated reads.
    """

    kernel: str
    ratio: int
    total: float
    unique: float
    per_threadgroup: float


def bytes_table(
    metal_kernel: Callable[..., Any] | None = None, heard: Callable[[str], None] = lambda doing: None
) -> list[Row]:
    """A row for each kernel and GQA ratio: one query, head_dim 128, two KV heads, 256 keys, bfloat16, 4 and 8 bits.

    Args:
        metal_kernel: the emulator's, or one that reports as it does.
        heard: hears what is counted next; may raise to stop.
    """
    made, whole = metal_kernel or _emulator(), (None, None)
    kernels = [("decode_quantized", (4, 64)), ("decode_quantized", (8, 64)), ("decode_dense", whole)]
    rows = []
    for kernel, packing in [*kernels, ("decode_per_head", whole)]:
        for ratio in RATIOS:
            heard(f"{kernel}, GQA-{ratio}:1")
            rows.append(_count(kernel, ratio, packing, made))
    return rows


def decode_time(bits: int | None = 4, metal_kernel: Callable[..., Any] | None = None) -> float:
    """Seconds for one emulated decode, checks included: 8 KV heads × 4, head_dim 128, 2,048 keys, bfloat16."""
    made = metal_kernel or _emulator()
    packing = (bits, 64) if bits else (None, None)
    call = problem(Case("bfloat16", HEAD_DIM, (32, 8), "none", False, 1, 1, 2048, packing)).call
    _decode(call, made)  # compiles
    began = time.perf_counter()
    _decode(call, made)
    return time.perf_counter() - began


def _count(kernel: str, ratio: int, packing: tuple[int | None, int | None], metal_kernel: Callable[..., Any]) -> Row:
    call = problem(Case("bfloat16", HEAD_DIM, (2 * ratio, 2), "none", False, 1, 1, KEYS, packing)).call
    if kernel == "decode_per_head":
        per_head(call, metal_kernel)
    else:
        _decode(call, metal_kernel)
    buffers = built(kernel, metal_kernel).report.buffers
    counts = [buffers[name] for name in _CACHE if name in buffers]
    arrays = [call.keys, call.values] if call.bits is None else [*call.keys, *call.values]
    there = sum(array.nbytes for array in arrays)
    label = kernel if call.bits is None else f"{kernel} {call.bits}-bit"
    return Row(
        label,
        ratio,
        sum(count.read for count in counts) / there,
        sum(count.read_unique for count in counts) / there,
        sum(count.read_unique_per_threadgroup for count in counts) / there,
    )


def _decode(call: Call, metal_kernel: Callable[..., Any]) -> Any:
    import mlx.core as mx

    out = (fused.decode_dense if call.bits is None else fused.decode_quantized)(call, metal_kernel)
    mx.eval(out)
    return out


def per_head(call: Call, metal_kernel: Callable[..., Any]) -> Any:
    """The baseline kernel on a call with a dense cache, without mask or sinks."""
    import mlx.core as mx

    batch, heads, length, head_dim = call.queries.shape
    [out] = built("decode_per_head", metal_kernel)(
        inputs=[call.queries, call.keys, call.values, mx.array(call.scale)],
        template=[("T", call.queries.dtype), ("DIM", head_dim)],
        grid=(32, batch * heads * length, 1),
        threadgroup=(32, 1, 1),
        output_shapes=[call.queries.shape],
        output_dtypes=[call.queries.dtype],
    )
    return out


def _emulator() -> Callable[..., Any]:
    from .emulator import metal_kernel

    return metal_kernel
