"""A Metal kernel on NumPy arrays: what `mx.fast.metal_kernel` does with its arguments, without MLX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import KernelError
from .address_spaces import without_address_space
from .build import Built, build
from .cache import drop
from .findings import worded
from .launch import Argument, NotStartedError, Triple, launch
from .names import identifier
from .outputs import new_output
from .report import Report
from .signature import KernelText, kernel_text, numpy_dtype
from .toolchain import find_compiler

Array = np.ndarray[Any, np.dtype[Any]]
MOST_THREADS = 1024  # of a threadgroup, on every Apple GPU
SHORTEST, LONGEST = 1e-6, 1e6  # seconds of a time limit: a timer's least step, and eleven days
MOST_BUFFERS = 31  # of a kernel, in Metal
_INVALID = "[metal_kernel] "


@dataclass(frozen=True, slots=True)
class Typed:
    """An array and its dtype by name; a bfloat16 array is its bits as uint16. `data` may be strided."""

    data: Array
    dtype: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel's body with its names; called with arrays it compiles itself for their dtypes and runs."""

    name: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    source: str
    header: str = ""
    ensure_row_contiguous: bool = True
    atomic_outputs: bool = False

    def __post_init__(self) -> None:
        for name in (*self.input_names, *self.output_names):
            identifier(name)

    def text(
        self, inputs: Sequence[Typed], output_dtypes: Sequence[str], template: Sequence[tuple[str, str, str]]
    ) -> KernelText:
        """The kernel's text for these inputs and outputs.

        Raises:
            ValueError: two arguments of one name.
            KernelError: a dtype that Metal has not.
        """
        for dtype in (*(typed.dtype for typed in inputs), *output_dtypes):
            numpy_dtype(dtype)
        described = [(n, t.dtype, t.data.ndim, t.data.size) for n, t in zip(self.input_names, inputs, strict=True)]
        outputs = list(zip(self.output_names, output_dtypes, strict=True))
        return kernel_text(self.name, self.header, self.source, described, outputs, template, self.atomic_outputs)

    def check(self, inputs: Sequence[Any], output_shapes: Sequence[Any], output_dtypes: Sequence[Any]) -> None:
        """Whether there is one of each for every name, in MLX's own words.

        Raises:
            ValueError: there is not.
        """
        for label, names, given in (
            ("inputs", self.input_names, inputs),
            ("output_shapes", self.output_names, output_shapes),
            ("output_dtypes", self.output_names, output_dtypes),
        ):
            if len(names) != len(given):
                raise ValueError(f"{_INVALID}Expected `{label}` to have size {len(names)} but got size {len(given)}.")

    def run(
        self,
        inputs: Sequence[Typed],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[str],
        grid: Sequence[int],
        threadgroup: Sequence[int],
        template: Sequence[tuple[str, str, str]] = (),
        init_value: float | None = None,
        checks: bool = True,
        time_limit: float = 60.0,
    ) -> tuple[list[Array], Report]:
        """Run the kernel on `grid` threads; its outputs, and what it did.

        Args:
            template: arguments as (kind, name, value): ("typename", "T", "float"), ("int", "N", "4").
            init_value: what outputs hold before; without it they hold 0xFF in every byte (NaN in a float).
            time_limit: seconds of emulation, above 0; more than 1e6 is as 1e6.

        Raises:
            ValueError: not as many arrays, shapes or dtypes as names, or two arguments of one name.
            KernelError: a grid, threadgroup, shape, dtype, `init_value` or `time_limit` that cannot be; no compiler;
                a cache folder that is full, or from which nothing may be run.
            KernelCompileError: the source does not compile.
        """
        self.check(inputs, output_shapes, output_dtypes)
        grid, group = _triple("grid", grid, 0), _triple("threadgroup", threadgroup, 1)
        group = (min(group[0], grid[0] or 1), min(group[1], grid[1] or 1), min(group[2], grid[2] or 1))
        limit, text = _limit(time_limit), self.text(inputs, output_dtypes, template)
        outputs = [new_output(*given, init_value) for given in zip(output_shapes, output_dtypes, strict=True)]
        if len(text.parameters) > MOST_BUFFERS:
            raise KernelError(f"The kernel takes {len(text.parameters)} buffers.", f"Metal allows {MOST_BUFFERS}.")
        if group[0] * group[1] * group[2] > MOST_THREADS:
            return outputs, _too_many_threads(group, text)
        arguments = self._arguments(text, inputs, outputs, init_value is not None)
        built = build(text, find_compiler(), checks)
        try:
            report = launch(built, text, arguments, grid, group, checks, limit)
        except NotStartedError:
            report = launch(_again(built, text, checks), text, arguments, grid, group, checks, limit)
        bare = without_address_space(self.source, self.header)
        return outputs, replace(report, findings=report.findings + bare) if bare else report

    def _arguments(
        self, text: KernelText, inputs: Sequence[Typed], outputs: Sequence[Array], initialised: bool
    ) -> list[Argument]:
        arguments = []
        spans = [_span(typed.data, self.ensure_row_contiguous) for typed in inputs]
        for parameter in text.parameters:
            if parameter.part == "output":
                arguments.append(Argument(parameter.name, outputs[parameter.array], True, initialised))
                continue
            data, strides = spans[parameter.array]
            shape = inputs[parameter.array].data.shape
            content = {
                "data": data,
                "shape": np.array(shape, np.int32),
                "strides": np.array(strides, np.int64),
                "ndim": np.array([len(shape)], np.int32),
            }
            arguments.append(Argument(parameter.name, content[parameter.part]))
        return arguments


def _triple(label: str, given: Sequence[int], least: int) -> Triple:
    numbers = tuple(given)
    if len(numbers) != 3 or not all(isinstance(n, int) and least <= n < 2**31 for n in numbers):
        raise KernelError(f"The {label} is {given!r}.", f"It takes three whole numbers of at least {least}.")
    return numbers


def _limit(seconds: float) -> float:
    if not isinstance(seconds, (int, float)) or math.isnan(seconds) or seconds <= 0:
        raise KernelError(f"The time limit is {seconds!r}.", "It takes seconds, more than 0.")
    return float(min(max(seconds, SHORTEST), LONGEST))


def _again(built: Built, text: KernelText, checks: bool) -> Built:
    """The kernel compiled anew, since what is in the cache does not start."""
    try:
        drop(built.library)
        drop(built.runner)
    except OSError as error:
        raise KernelError(
            f"The compiled kernel in {built.library.parent} does not start, and cannot be replaced: {error.strerror}.",
            "Set MLXNB_CACHE_DIR to another folder.",
        ) from None
    return build(text, find_compiler(), checks)


def _span(data: Array, row_contiguous: bool) -> tuple[Array, list[int]]:
    """The memory from a view's first element to its last, and its strides in elements."""
    if row_contiguous or any(stride < 0 for stride in data.strides):
        data = np.ascontiguousarray(data).reshape(data.shape)
    strides = [stride // data.itemsize for stride in data.strides]
    if row_contiguous:
        strides = [int(np.prod(data.shape[i + 1 :])) for i in range(data.ndim)]
    length = 1 + sum((n - 1) * stride for n, stride in zip(data.shape, strides, strict=True)) if data.size else 0
    return np.lib.stride_tricks.as_strided(data, (length,), (data.itemsize,)).copy(), strides


def _too_many_threads(group: Triple, text: KernelText) -> Report:
    raw = {"kind": "too-many-threads", "space": "", "subject": "", "index": group[0] * group[1] * group[2], "count": 1}
    return Report(findings=(worded(raw, text, None, None),), complete=False)
