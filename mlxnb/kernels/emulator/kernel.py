"""The call of `mx.fast.metal_kernel`, answered by the emulator: MLX arrays in, MLX arrays out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from ...errors import KernelFaultError
from .core import Kernel, Typed
from .names import identifier
from .report import Report
from .signature import METAL_TYPES


class EmulatedKernel:
    """What `metal_kernel` gives. `report` is that of the last call, None before the first."""

    def __init__(self, kernel: Kernel, checks: bool, time_limit: float) -> None:
        self._kernel = kernel
        self._checks, self._time_limit = checks, time_limit
        self.report: Report | None = None

    def __call__(self, **arguments: Any) -> list[Any]:
        """Run the kernel on MLX arrays, with the keywords of MLX's own.

        Raises:
            KernelFaultError: it did what no kernel may do; `.report` has every finding.
            ValueError, KernelError: as `run`.
        """
        outputs, report = self.run(**arguments)
        if not report.ok:
            errors = [finding for finding in report.findings if finding.grade == "error"]
            more = f" There {'is' if len(errors) == 2 else 'are'} {len(errors) - 1} more." if len(errors) > 1 else ""
            raise KernelFaultError(
                f"The kernel {self._kernel.name}: {errors[0]}{more}", "See .report for all of it.", report
            )
        return outputs

    def run(
        self,
        *,
        inputs: Sequence[Any],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[Any],
        grid: Sequence[int],
        threadgroup: Sequence[int],
        template: Sequence[tuple[str, Any]] | None = None,
        init_value: float | None = None,
        verbose: bool = False,
        stream: Any = None,
    ) -> tuple[list[Any], Report]:
        """Run the kernel on MLX arrays or numbers; its outputs and its report, whatever the findings.

        Args:
            output_dtypes: MLX dtypes, or their names.
            template: pairs of a name and a bool, an int or a dtype.
            verbose: print the text that MLX would compile.
            stream: taken and not used.

        Raises:
            ValueError: not as many arrays, shapes or dtypes as names, or a template argument of another type.
            KernelError: see `Kernel.run`.
        """
        self._kernel.check(inputs, output_shapes, output_dtypes)
        typed = [typed_array(array) for array in inputs]
        dtypes = [dtype_name(dtype) for dtype in output_dtypes]
        arguments = [_template_argument(*pair) for pair in template or ()]
        if verbose:
            text = self._kernel.text(typed, dtypes, arguments).metal()
            print(f"Generated source code for `{self._kernel.name}`:\n```\n{text}\n```")
        outputs, self.report = self._kernel.run(
            typed, output_shapes, dtypes, grid, threadgroup, arguments, init_value, self._checks, self._time_limit
        )
        return [mlx_array(Typed(output, dtype)) for output, dtype in zip(outputs, dtypes, strict=True)], self.report


def metal_kernel(
    name: str,
    input_names: Sequence[str],
    output_names: Sequence[str],
    source: str,
    header: str = "",
    ensure_row_contiguous: bool = True,
    atomic_outputs: bool = False,
    compile_options: Mapping[str, Any] | None = None,
    *,
    checks: bool = True,
    time_limit: float = 60.0,
) -> EmulatedKernel:
    """A kernel that runs on this machine's processor under the rules of Metal; the call of `mx.fast.metal_kernel`.

    Args:
        compile_options: taken and not used: mathematics here is always Metal's "safe" kind.
        checks: look at every memory access; without it a kernel reports no traffic and runs faster, by some 2.5 times
            where it mostly loads from buffers and up to 11 times where it mostly works in threadgroup arrays.
        time_limit: seconds of emulation after which a launch is stopped; more than 1e6 is as 1e6.

    Not modelled, and so not reported: coalescing, occupancy, registers, fast-math; a private variable read before it is
    written; a private array overrun through a pointer, unless it leaves the thread's stack; the part of a vector load
    that lies past the end where the kernel uses other elements only; what a fence orders (races between threadgroups
    are warnings where there is one); an order of simd functions' additions that hardware may not have.

    Raises:
        ValueError: no output, or a name that C++ cannot have, as a word of the language.
    """
    if not output_names:
        raise ValueError("[metal_kernel] Must specify at least one output.")
    kernel = Kernel(
        name, tuple(input_names), tuple(output_names), source, header, ensure_row_contiguous, atomic_outputs
    )
    return EmulatedKernel(kernel, checks, time_limit)


@contextlib.contextmanager
def emulated() -> Iterator[None]:
    """Inside, `mx.fast.metal_kernel` is the emulator's and `mx.metal.is_available()` is true."""
    import mlx.core as mx

    before = mx.fast.metal_kernel, mx.metal.is_available
    mx.fast.metal_kernel, mx.metal.is_available = cast(Any, metal_kernel), lambda: True
    try:
        yield
    finally:
        mx.fast.metal_kernel, mx.metal.is_available = before


def dtype_name(dtype: Any) -> str:
    """ "float32" for mx.float32, np.float32 or "float32"."""
    text = getattr(dtype, "__name__", None) or str(dtype)
    return text.removeprefix("mlx.core.").rstrip("_")


def typed_array(array: Any) -> Typed:
    """An MLX array, or a number, as NumPy sees it: no copy, and bfloat16 as its bits."""
    import mlx.core as mx

    array = array if isinstance(array, mx.array) else mx.array(array)
    mx.eval(array)
    dtype = dtype_name(array.dtype)
    return Typed(np.array(array.view(mx.uint16) if dtype == "bfloat16" else array, copy=False), dtype)


def mlx_array(typed: Typed) -> Any:
    """The MLX array with these elements."""
    import mlx.core as mx

    array = mx.array(typed.data)
    return array.view(mx.bfloat16) if typed.dtype == "bfloat16" else array


def _template_argument(name: str, value: Any) -> tuple[str, str, str]:
    if isinstance(value, bool):
        return "bool", identifier(name), str(int(value))
    if isinstance(value, int):
        return "int", identifier(name), str(value)
    if (metal_type := METAL_TYPES.get(dtype_name(value))) is None:
        raise ValueError("[metal_kernel] Invalid template argument. Must be `mlx.core.Dtype`, `int` or `bool`.")
    return "typename", identifier(name), metal_type
