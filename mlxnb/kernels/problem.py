"""The arrays of a case, as a model would hand them over, and the float64 answer."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import reference
from .call import Array, Call
from .cases import Case

STEP = 256  # tokens by which mlx-lm's caches grow: keys and values are slices of a buffer this much larger
Numpy = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Problem:
    """A call and its answer.

    `expected` [B, heads, rows, head_dim] is in float64, for the queries `rows`, by their numbers; `seeing` [B, heads,
    rows] says whether such a query may look anywhere.
    """

    call: Call
    rows: tuple[int, ...]
    expected: Numpy
    seeing: Numpy

    def error(self, output: Array) -> float:
        """‖output − expected‖ / ‖expected‖ over the queries that may look somewhere; infinite if not all is finite.

        A query without keys is left out because paths differ there by convention: ours give zeros, stock's anything.
        """
        got = to_numpy(output)[:, :, list(self.rows)][self.seeing]
        want = self.expected[self.seeing]
        if not np.isfinite(got).all():
            return float("inf")
        return float(np.linalg.norm(got - want) / (np.linalg.norm(want) or 1.0))

    def blind_are_zero(self, output: Array) -> bool:
        """Whether the queries that may look at nothing give zeros."""
        return not to_numpy(output)[:, :, list(self.rows)][~self.seeing].any()


def problem(case: Case, most_rows: int | None = None) -> Problem:
    """The same arrays every time for the same case; float64 computes `most_rows` of the queries, or all of them."""
    import mlx.core as mx

    rng = np.random.default_rng(zlib.crc32(repr(case).encode()))
    dtype = getattr(mx, case.dtype)
    heads, kv_heads = case.pattern

    def normal(*shape: int) -> Array:
        return mx.array(rng.standard_normal(shape, dtype=np.float32)).astype(dtype)

    queries = normal(case.batch, heads, case.query_len, case.head_dim)
    keys, values = (_cache(normal(case.batch, kv_heads, case.kv_len, case.head_dim), case.packing) for _ in range(2))
    mask = _mask(case, rng, dtype)
    sinks = normal(heads) if case.sinks else None
    call = Call(queries, keys, values, case.head_dim**-0.5, mask, sinks, *case.packing)
    plain = [unpacked(a, *case.packing) for a in (keys, values)]
    rows = _rows(case.query_len, most_rows)
    some, known = to_numpy(queries)[:, :, list(rows)], _of_rows(mask, rows, case)
    sink_logits = None if sinks is None else to_numpy(sinks)
    expected = reference.attention(some, *plain, scale=call.scale, mask=known, sinks=sink_logits)
    # A query that looks anywhere has an average of ones, so where it has zeros it may look at nothing.
    ones = reference.attention(some, plain[0], np.ones_like(plain[1]), scale=call.scale, mask=known)
    return Problem(call, rows, expected, ones[..., 0] > 0.5)


def _rows(length: int, most: int | None) -> tuple[int, ...]:
    """The numbers of the queries to compute: all, or `most` of them, the first and the last among them."""
    if most is None or length <= most:
        return tuple(range(length))
    return tuple(sorted({round(i) for i in np.linspace(0, length - 1, most)}))


def _of_rows(mask: Array | str | None, rows: tuple[int, ...], case: Case) -> Numpy | None:
    if mask is None:
        return None
    if isinstance(mask, str):
        own = np.arange(case.kv_len - case.query_len, case.kv_len)[list(rows)]
        return np.arange(case.kv_len)[None] <= own[:, None]
    known = to_numpy(mask)
    return known if known.shape[-2] == 1 else known[..., list(rows), :]


def _cache(array: Array, packing: tuple[int | None, int | None]) -> Any:
    """The array, quantised if so wanted, as the front of a larger buffer. What lies behind would spoil any sum."""
    import mlx.core as mx

    bits, group = packing
    batch, kv_heads, length, _ = array.shape
    behind = STEP - length % STEP

    def front(part: Array, rest: Any) -> Array:
        whole = mx.concatenate(
            [part, mx.full((batch, kv_heads, behind, part.shape[-1]), rest, dtype=part.dtype)], axis=2
        )
        mx.eval(whole)
        return whole[..., :length, :]

    if bits is None:
        return front(array, float("nan"))
    packed, scales, biases = mx.quantize(array, group_size=group, bits=bits)
    return front(packed, 0xFFFFFFFF), front(scales, float("nan")), front(biases, float("nan"))


def _mask(case: Case, rng: np.random.Generator, dtype: Any) -> Array | str | None:
    import mlx.core as mx

    if case.mask in ("none", "causal"):
        return None if case.mask == "none" else "causal"
    sizes = {"B": case.batch, "heads": case.pattern[0], "L": case.query_len, "S": case.kv_len, "1": 1}
    shape = [sizes[axis] for axis in case.mask.partition("[")[2].rstrip("]").split(", ")]
    places = np.arange(case.kv_len)
    own = np.arange(case.kv_len - case.query_len, case.kv_len)[:, None]
    if "bias" in case.mask:
        return mx.array(rng.standard_normal(shape, dtype=np.float32)).astype(dtype)
    if "padding" in case.mask:
        padded = rng.integers(0, case.kv_len, (case.batch, 1, 1, 1))
        seen = (places >= padded) & (places <= own)
    elif "window" in case.mask:
        seen = (places <= own) & (places > own - 24)
    else:
        seen = rng.random(shape) < 0.7
        seen |= places == rng.integers(0, case.kv_len)
        if "shut" in case.mask:
            seen[:, :, 0] = False
    if case.mask.startswith("bool"):
        return mx.array(np.broadcast_to(seen, shape))
    slopes = rng.standard_normal(shape, dtype=np.float32)
    return mx.array(np.where(seen, slopes, -np.inf)).astype(dtype)


def unpacked(cache: Any, bits: int | None, group: int | None) -> Numpy:
    """Keys or values in float64: as they are, or scale · q + bias of MLX's affine quantisation, without rounding."""
    if bits is None or group is None:
        return to_numpy(cache)
    words, scales, biases = (np.array(cache[0]), to_numpy(cache[1]), to_numpy(cache[2]))
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    quanta = (words[..., None] >> shifts) & np.uint32((1 << bits) - 1)
    grouped = quanta.reshape(*words.shape[:-1], -1, group).astype(np.float64)
    return (grouped * scales[..., None] + biases[..., None]).reshape(*words.shape[:-1], -1)


def to_numpy(array: Array) -> Numpy:
    """The array in numpy: boolean as it is, anything else in float64, which holds every dtype here exactly."""
    import mlx.core as mx

    if array.dtype == mx.bool_:
        return np.array(array)
    return np.array(array.astype(mx.float32)).astype(np.float64)
