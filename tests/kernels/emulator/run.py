"""Runs a kernel body on NumPy arrays in one call, for the tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlxnb.kernels.emulator import Kernel, Report, Typed

Array = np.ndarray[Any, np.dtype[Any]]
INDEX = "uint i = thread_position_in_grid.x; "


def bfloat16_bits(values: Array) -> Array:
    """float32 values rounded to nearest even, as the bits of bfloat16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def widened(bits: Array) -> Array:
    """bfloat16 bits as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def typed(array: Array, dtype: str | None = None) -> Typed:
    """An array with its dtype's name; float values given as bfloat16 become its bits."""
    if dtype == "bfloat16":
        return Typed(bfloat16_bits(array), dtype)
    return Typed(array if dtype is None else array.astype(dtype), dtype or array.dtype.name)


def run(
    source: str,
    inputs: dict[str, Array | Typed],
    shape: tuple[int, ...],
    dtype: str = "float32",
    threads: int | tuple[int, int, int] = 0,
    group: int | tuple[int, int, int] = 0,
    header: str = "",
    clean: bool = True,
    **options: Any,
) -> tuple[Array, Report]:
    """The output `y` of a body with `uint i` before it, and its report, which has no finding if `clean`."""
    given = [array if isinstance(array, Typed) else typed(array) for array in inputs.values()]
    kernel = Kernel("test", tuple(inputs), ("y",), INDEX + source, header)
    threads = threads or int(np.prod(shape))
    grid = threads if isinstance(threads, tuple) else (threads, 1, 1)
    group = group or min(256, grid[0])
    groups = group if isinstance(group, tuple) else (group, 1, 1)
    outputs, report = kernel.run(given, [shape], [dtype], grid, groups, **options)
    assert not clean or report.findings == (), str(report)
    return outputs[0], report
