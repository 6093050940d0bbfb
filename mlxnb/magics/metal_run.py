"""Runs the kernel of a `%%metal_kernel` cell: natively and timed where there is Metal, else in the emulator."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import KernelError, KernelFaultError, OptionError
from .metal_options import GROUP, Output, default_grid, outputs_of, seconds_of, template_of, threads_of

if TYPE_CHECKING:
    from ..kernels.emulator import Report

DTYPES = (
    "float32",
    "float16",
    "bfloat16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool_",
)
TIME_LIMIT = 60.0
ENDS = ("time-limit", "out-of-bounds")  # what a kernel is stopped for; other findings only add up
REPEATS = 20


@dataclass(frozen=True, slots=True)
class KernelRun:
    """What a kernel gave: outputs by name; the emulator's report; natively, seconds a launch."""

    outputs: dict[str, Any]
    report: Report | None
    seconds: float | None = None

    def fault(self) -> KernelFaultError | None:
        """The error to end the cell with, if the emulator had to stop the kernel or saw it do something forbidden."""
        if self.report is None or self.report.ok:
            return None
        errors = [finding for finding in self.report.findings if finding.grade == "error"]
        first = next((finding for finding in errors if finding.kind in ENDS), errors[0])
        where = f"Line {first.line} of the cell: " if first.line is not None and first.part == "source" else ""
        return KernelFaultError(f"{where}{first.message}", "The findings above have the rest.", self.report)


def run_kernel(options: argparse.Namespace, source: str, names: Mapping[str, Any]) -> KernelRun:
    """Compile and run the cell's kernel as its options say.

    Raises:
        OptionError: a variable that is missing or no array, or an option that cannot be read.
        KernelError: it does not compile, or there is nothing to compile it with.
    """
    import mlx.core as mx

    inputs = [_array(name.strip(), names) for name in (options.inputs or "").split(",") if name.strip()]
    outputs = outputs_of(options.outputs)
    shapes = [_shape_of(output, inputs) for output in outputs]
    grid = threads_of("--grid", options.grid, default_grid(shapes[0]))
    launch: dict[str, Any] = {
        "inputs": inputs,
        "output_shapes": shapes,
        "output_dtypes": [_dtype_of(output, inputs) for output in outputs],
        "grid": grid,
        "threadgroup": threads_of("--group", options.group, (min(GROUP, grid[0]), 1, 1)),
        "template": template_of(options.template, {name.rstrip("_"): getattr(mx, name) for name in DTYPES}) or None,
        "init_value": _init(options.init),
    }
    made: dict[str, Any] = {
        "name": options.name or "cell",
        "input_names": [name.strip() for name in (options.inputs or "").split(",") if name.strip()],
        "output_names": [output.name for output in outputs],
        "source": f"\n{source}",  # the magic's own line is the cell's first, so that both count lines alike
        "header": _header(options.header, names),
        "ensure_row_contiguous": not options.strided,
        "atomic_outputs": options.atomic,
    }
    if mx.metal.is_available() and not options.emulate:
        return _native(made, launch)
    return _emulated(made, launch, seconds_of(options.limit, TIME_LIMIT))


def _native(made: dict[str, Any], launch: dict[str, Any]) -> KernelRun:
    """Run on Metal and time it; the emulator adds findings and bytes where there is a compiler."""
    import mlx.core as mx

    from ..kernels.emulator import compiler

    kernel: Any = mx.fast.metal_kernel(**made)
    values = kernel(**launch)
    mx.eval(values)
    began = time.perf_counter()
    mx.eval([kernel(**launch) for _ in range(REPEATS)])
    seconds = (time.perf_counter() - began) / REPEATS
    report = _emulated(made, launch, TIME_LIMIT).report if compiler() else None
    return KernelRun(dict(zip(made["output_names"], values, strict=True)), report, seconds)


def _emulated(made: dict[str, Any], launch: dict[str, Any], limit: float) -> KernelRun:
    from ..kernels.emulator import metal_kernel

    try:
        values, report = metal_kernel(**made, time_limit=limit).run(**launch)
    except (ValueError, RuntimeError) as err:  # in MLX's words, as mx.fast.metal_kernel has them
        raise KernelError(f"{str(err).removeprefix('[metal_kernel] ').rstrip('.')}.") from err
    return KernelRun(dict(zip(made["output_names"], values, strict=True)), report)


def _array(name: str, names: Mapping[str, Any]) -> Any:
    import mlx.core as mx
    import numpy as np

    if name not in names:
        raise OptionError(f"There is no variable {name!r}.", "--in takes variables of the notebook, as in a,b.")
    value = names[name]
    if isinstance(value, mx.array):
        return value
    if isinstance(value, bool | int | float | np.ndarray | np.generic):
        return mx.array(np.asarray(value) if isinstance(value, np.generic) else value)
    raise OptionError(f"{name} is a {type(value).__name__}.", "--in takes MLX or NumPy arrays and numbers.")


def _header(name: str | None, names: Mapping[str, Any]) -> str:
    if name is None:
        return ""
    if not isinstance(names.get(name), str):
        raise OptionError(f"--header is {name!r}.", "It takes a variable that holds Metal code as text.")
    return str(names[name])


def _shape_of(output: Output, inputs: list[Any]) -> tuple[int, ...]:
    if output.shape is not None:
        return output.shape
    if not inputs:
        raise OptionError(f"The shape of {output.name} is not known.", f"Write it: --out {output.name}:float32[1024].")
    return tuple(inputs[0].shape)


def _dtype_of(output: Output, inputs: list[Any]) -> Any:
    import mlx.core as mx

    if output.dtype is None:
        return inputs[0].dtype if inputs else mx.float32
    name = "bool_" if output.dtype == "bool" else output.dtype
    if name not in DTYPES:
        known = ", ".join(each.rstrip("_") for each in DTYPES)
        raise OptionError(f"{output.name} has the dtype {output.dtype!r}.", f"It takes {known}.")
    return getattr(mx, name)


def _init(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise OptionError(f"--init is {text!r}.", "It takes a number.") from None
