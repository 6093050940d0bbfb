"""The arrays that a kernel writes: made, and filled with `init_value` as MLX fills them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import KernelError
from .signature import numpy_dtype

Array = np.ndarray[Any, np.dtype[Any]]


def new_output(shape: Sequence[int], dtype: str, init_value: float | None) -> Array:
    """An array of that shape: `init_value` in every element, or without one 0xFF in every byte (NaN in a float).

    Raises:
        KernelError: no such shape, or a value that the dtype does not hold.
    """
    if any(n < 0 for n in shape):
        raise KernelError(f"An output has the shape {tuple(shape)}.", "No extent can be negative.")
    try:
        output: Array = np.empty(tuple(shape), numpy_dtype(dtype))
    except (MemoryError, ValueError):
        raise KernelError(f"An output of shape {tuple(shape)} does not fit into memory.", "Make it smaller.") from None
    if init_value is None:
        output.reshape(-1).view(np.uint8)[:] = 0xFF
    else:
        output[...] = _element(init_value, dtype)
    return output


def _element(value: float, dtype: str) -> Any:
    """The value in the dtype. MLX takes it as float32 first; what C++ leaves open beyond that is refused."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise KernelError(f"init_value is {value!r}.", "It takes a number.") from None
    with np.errstate(over="ignore"):
        single = np.float32(number)
        if dtype == "bfloat16":
            return _bfloat16_bits(single)
        if np.dtype(dtype).kind not in "iu":
            return single.astype(dtype)
    limits = np.iinfo(dtype)
    if not limits.min - 1 < number < limits.max + 1:  # not so for NaN
        raise KernelError(
            f"init_value is {value!r}, and an output is {dtype}.", f"It takes {limits.min} to {limits.max}."
        )
    return min(max(int(single), limits.min), limits.max)


def _bfloat16_bits(single: np.float32) -> int:
    """Rounded to nearest even, NaN to a quiet NaN."""
    if np.isnan(single):
        return 0x7FC0
    bits = int(single.view(np.uint32))
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
