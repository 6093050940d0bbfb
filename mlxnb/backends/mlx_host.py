"""One layer's cache of mlx-lm in host memory, and made again from it if it fits the model."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cache.states import WIDTHS, HostArray
from ..request import KV_BITS, KV_GROUP_SIZES
from .mlx_layers import COUNTS, kind, rows
from .state_layers import HostLayer

_NAMES = {
    "bfloat16": "BF16",
    "float16": "F16",
    "float32": "F32",
    "uint32": "U32",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "bool": "BOOL",
}
_FLOATING = ("BF16", "F16", "F32")


@dataclass(frozen=True, slots=True)
class Form:
    """What this model's arrays look like, by name: shape and type by safetensors' name."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]


def to_host(cache: Any) -> HostLayer:
    """The used part of it, copied: what leaves the engine's thread may not be MLX's memory.

    Raises:
        ValueError: an element type that has no name, or a batch.
    """
    name = kind(cache)
    if name is None:
        raise ValueError(f"A {type(cache).__name__} is not known here.")
    if name == "ArraysCache":
        if cache.left_padding is not None or cache.lengths is not None:
            raise ValueError("The cache is of a batch.")
        return HostLayer(name, {}, {str(i): host(a) for i, a in enumerate(cache.cache) if a is not None})
    arrays = {} if cache.empty() else {n: host(a[..., : rows(cache), :]) for n, a in _sides(cache).items()}
    return HostLayer(name, {count: int(getattr(cache, count)) for count in COUNTS[name]}, arrays)


def _sides(cache: Any) -> dict[str, Any]:
    """Keys and values by name, those of a quantised cache in three parts."""
    sides = {"keys": cache.keys, "values": cache.values}
    if kind(cache) != "QuantizedKVCache":
        return sides
    return {f"{side}.{i}": part for side, parts in sides.items() for i, part in enumerate(parts)}


def host(array: Any) -> HostArray:
    """One array in numpy's own memory; bfloat16 by its bits."""
    import mlx.core as mx

    name = _NAMES.get(dtype := str(array.dtype).removeprefix("mlx.core."))
    if name is None:
        raise ValueError(f"An array of {dtype} cannot be stored.")
    return HostArray.of(np.array(array.view(mx.uint16)), name) if name == "BF16" else HostArray.of(np.array(array))


def from_host(array: HostArray) -> Any:
    """The array that `host` was given."""
    import mlx.core as mx

    made = mx.array(array.numpy())
    return made.view(mx.bfloat16) if array.dtype == "BF16" else made


def form(cache: Any) -> Form:
    """The form of a cache that has been fed; nothing is computed for it."""
    arrays = dict(enumerate(cache.cache)) if kind(cache) == "ArraysCache" else _sides(cache)
    held = {str(name): array for name, array in arrays.items() if array is not None}
    dtypes = {name: _NAMES.get(str(array.dtype).removeprefix("mlx.core."), "") for name, array in held.items()}
    return Form({name: tuple(array.shape) for name, array in held.items()}, dtypes)


def rebuilt(fresh: Any, layer: HostLayer, expected: Form) -> Any:
    """The cache that `layer` is of, made from an empty one of this model.

    Raises:
        ValueError: the layer does not fit this model.
    """
    own = kind(fresh)
    if layer.kind != own and (own, layer.kind) != ("KVCache", "QuantizedKVCache"):
        raise ValueError(f"There is a {layer.kind} where this model has a {own}.")
    if own == "ArraysCache":
        return _rebuilt_arrays(fresh, layer, expected)
    made = _quantized(layer, expected) if own != layer.kind else copy.copy(fresh)
    _check_fixed(fresh, layer)
    for name in COUNTS[layer.kind]:
        setattr(made, name, layer.counts[name])
    if not layer.counts["offset"]:
        layer.expect_arrays(())
        return made
    shapes, dtypes = _expected_sides(layer, expected, _rows_of(layer))
    layer.expect_arrays(shapes)
    arrays = {name: from_host(layer.array(name, shape, (dtypes[name],))) for name, shape in shapes.items()}
    if own == layer.kind:
        made.keys, made.values = arrays["keys"], arrays["values"]
    else:
        made.keys, made.values = (tuple(arrays[f"{side}.{i}"] for i in range(3)) for side in ("keys", "values"))
    return made


def _rebuilt_arrays(fresh: Any, layer: HostLayer, expected: Form) -> Any:
    made = copy.copy(fresh)
    layer.expect_arrays(expected.shapes if layer.arrays else ())
    made.cache = [None] * len(fresh.cache)
    for name in layer.arrays:
        # A recurrent state may be kept in another precision by the steps of a decode than by a prefill.
        allowed = _FLOATING if expected.dtypes[name] in _FLOATING else (expected.dtypes[name],)
        made.cache[int(name)] = from_host(layer.array(name, expected.shapes[name], allowed))
    return made


def _quantized(layer: HostLayer, expected: Form) -> Any:
    from mlx_lm.models.cache import QuantizedKVCache

    bits, group = layer.counts["bits"], layer.counts["group_size"]
    dims = [shape[-1] for shape in expected.shapes.values()]
    if bits not in KV_BITS or group not in KV_GROUP_SIZES or any(dim % group for dim in dims):
        raise ValueError(f"A cache of {bits} bits in groups of {group} does not fit rows of {dims}.")
    return QuantizedKVCache(group_size=group, bits=bits)


def _check_fixed(fresh: Any, layer: HostLayer) -> None:
    """Numbers that the model decides, and buffers that a generation could not go on from."""
    count = layer.counts
    if layer.kind == "RotatingKVCache":
        layer.expect_counts(keep=fresh.keep, max_size=fresh.max_size)
        held = _rows_of(layer)
        in_order = count["_idx"] == held
        turned = held == fresh.max_size and fresh.keep < count["_idx"] < held
        if not (in_order or turned) or held < min(count["offset"], fresh.max_size) or held > count["offset"]:
            raise ValueError(f"A RotatingKVCache of {dict(count)} cannot hold {held} rows.")
    if layer.kind == "ChunkedKVCache":
        layer.expect_counts(chunk_size=fresh.chunk_size)
        if count["start_position"] > count["offset"]:
            raise ValueError(
                f"A ChunkedKVCache starts at {count['start_position']}, after its {count['offset']} tokens."
            )


def _rows_of(layer: HostLayer) -> int:
    if layer.kind == "RotatingKVCache":
        shape = layer.arrays["keys"].shape if "keys" in layer.arrays else ()
        return shape[2] if len(shape) == 4 else 0
    return layer.counts["offset"] - layer.counts.get("start_position", 0)


def size(fresh: Any, expected: Form, tokens: int) -> int:
    """Bytes that an empty cache of this model will take once it has been fed so many tokens, and those it keeps for
    more: mlx-lm's buffers grow in steps.

    Raises:
        ValueError: a kind of cache that has no name.
    """
    own = kind(fresh)
    if own is None:
        raise ValueError(f"A {type(fresh).__name__} is not known here.")
    shapes, dtypes = expected.shapes, expected.dtypes
    if own != "ArraysCache":
        held = -(-tokens // fresh.step) * fresh.step
        window = getattr(fresh, "max_size", getattr(fresh, "chunk_size", held))
        counts = {name: getattr(fresh, name) for name in COUNTS[own]}
        shapes, dtypes = _expected_sides(HostLayer(own, counts), expected, min(held, window))
    return sum(math.prod(shape) * WIDTHS.get(dtypes[name], 4) for name, shape in shapes.items())


def _expected_sides(layer: HostLayer, expected: Form, held: int) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shapes and types of the arrays that `layer` should have for so many rows."""
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for side, (batch, heads, _, dim) in expected.shapes.items():
        if layer.kind != "QuantizedKVCache":
            shapes[side], dtypes[side] = (batch, heads, held, dim), expected.dtypes[side]
            continue
        words, groups = dim * layer.counts["bits"] // 32, dim // layer.counts["group_size"]
        for i, (width, dtype) in enumerate([(words, "U32"), *[(groups, expected.dtypes[side])] * 2]):
            shapes[f"{side}.{i}"], dtypes[f"{side}.{i}"] = (batch, heads, held, width), dtype
    return shapes, dtypes
