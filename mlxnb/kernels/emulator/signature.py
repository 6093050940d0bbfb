"""The kernel text that MLX writes round a body (mlx/backend/common/metal_kernel.cpp), and the arguments it binds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...errors import KernelError
from .names import once_each

# Metal's name for each dtype, and the NumPy dtype that has its bits (NumPy has no bfloat16).
METAL_TYPES = {
    "bool": "bool",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "uint32": "uint32_t",
    "uint64": "uint64_t",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "float16": "float16_t",
    "float32": "float",
    "bfloat16": "bfloat16_t",
    "complex64": "complex64_t",
}
ATTRIBUTES = {
    "dispatch_quadgroups_per_threadgroup": "uint",
    "dispatch_simdgroups_per_threadgroup": "uint",
    "dispatch_threads_per_threadgroup": "uint3",
    "grid_origin": "uint3",
    "grid_size": "uint3",
    "quadgroup_index_in_threadgroup": "uint",
    "quadgroups_per_threadgroup": "uint",
    "simdgroup_index_in_threadgroup": "uint",
    "simdgroups_per_threadgroup": "uint",
    "thread_execution_width": "uint",
    "thread_index_in_quadgroup": "uint",
    "thread_index_in_simdgroup": "uint",
    "thread_index_in_threadgroup": "uint",
    "thread_position_in_grid": "uint3",
    "thread_position_in_threadgroup": "uint3",
    "threadgroup_position_in_grid": "uint3",
    "threadgroups_per_grid": "uint3",
    "threads_per_grid": "uint3",
    "threads_per_simdgroup": "uint",
    "threads_per_threadgroup": "uint3",
}
_SAME_AS = {"grid_size": "threads_per_grid", "thread_execution_width": "threads_per_simdgroup"}
CONSTANT_BELOW = 8  # inputs of fewer elements go in the constant address space

SOURCE, HEADER = "kernel.source", "kernel.header"  # the file names by which lines are told apart


def plain_lines(text: str) -> str:
    """A text without `#line` and the like, which would make its lines mean others."""
    return re.sub(r"^[ \t]*#[ \t]*(?:line\b|\d)[^\n]*", "", text, flags=re.M)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of the kernel: how it is declared, and which array it takes ("data", or what describes it)."""

    name: str
    declaration: str
    reference: bool
    array: int
    part: Literal["data", "shape", "strides", "ndim", "output"]


@dataclass(frozen=True, slots=True)
class KernelText:
    """A kernel function for given dtypes: what MLX would compile, and what the emulator compiles instead."""

    function: str
    parameters: tuple[Parameter, ...]
    attributes: tuple[str, ...]
    template: tuple[tuple[str, str, str], ...]  # kind, name, value
    header: str
    source: str

    def metal(self) -> str:
        """The text that MLX hands to Metal's compiler."""
        text = self.header + self._head("[[kernel]] void") + self.source + "\n}\n"
        if self.template:
            text += f'\ntemplate [[host_name("{self.function}")]] [[kernel]] decltype({self.call}) {self.call};\n'
        return text

    def marked(self, prelude: str) -> str:
        """The same text for the preprocessor here, with markers that say which lines are the caller's."""
        header, source = plain_lines(self.header), plain_lines(self.source)
        parts = (prelude, f'# 1 "{HEADER}"', header, '# 1 "kernel.signature"', self._head("void"))
        return "\n".join((*parts, f'# 1 "{SOURCE}"', source, '# 1 "kernel.end"', "}", ""))

    def entry(self) -> str:
        """The C++ function through which the runner calls the kernel."""
        arguments = [
            f"msl::{'Reference' if parameter.reference else 'Pointer'}{{arguments[{i}]}}"
            for i, parameter in enumerate(self.parameters)
        ]
        arguments += [f"msl::value(info.{_SAME_AS.get(name, name)})" for name in self.attributes]
        return (
            '\n# 1 "kernel.entry"\n'
            'extern "C" __attribute__((visibility("default"))) '
            "void mlxnb_entry(const msl::ThreadInfo& info, void* const* arguments) {\n"
            f"  {self.call}({', '.join(arguments)});\n}}\n"
        )

    @property
    def call(self) -> str:
        """The function with its template arguments."""
        return self.function + (f"<{', '.join(value for *_, value in self.template)}>" if self.template else "")

    def _head(self, result: str) -> str:
        template = ", ".join(f"{kind} {name}" for kind, name, _ in self.template)
        lines = [f"  {p.declaration} {p.name} [[buffer({i})]]" for i, p in enumerate(self.parameters)]
        lines += [f"  {ATTRIBUTES[name]} {name} [[{name}]]" for name in self.attributes]
        return (
            (f"template <{template}>\n" if template else "")
            + f"{result} {self.function}(\n"
            + ",\n".join(lines)
            + ") {\n"
        )


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype that holds a dtype's elements.

    Raises:
        KernelError: Metal has no such type.
    """
    if name not in METAL_TYPES:
        raise KernelError(f"Metal has no {name}.", f"It takes one of {', '.join(METAL_TYPES)}.")
    return np.dtype("uint16" if name == "bfloat16" else name)


def kernel_text(
    name: str,
    header: str,
    source: str,
    inputs: Sequence[tuple[str, str, int, int]],
    outputs: Sequence[tuple[str, str]],
    template: Sequence[tuple[str, str, str]],
    atomic_outputs: bool,
) -> KernelText:
    """The kernel for inputs (name, dtype, ndim, size), outputs (name, dtype) and a template (kind, name, value).

    Raises:
        ValueError: two arguments of one name.
    """
    function = re.sub(r"\W", "_", "_".join(["custom_kernel", name, *(value for *_, value in template)]))
    parameters: list[Parameter] = []
    for i, (given, dtype, ndim, size) in enumerate(inputs):
        function += f"_{METAL_TYPES[dtype]}" + ("s" if ndim == 0 else "c" if size < CONSTANT_BELOW else "")
        parameters += _input_parameters(i, given, METAL_TYPES[dtype], ndim, size, source)
    for i, (given, dtype) in enumerate(outputs):
        function += f"_{METAL_TYPES[dtype]}"
        element = f"atomic<{METAL_TYPES[dtype]}>" if atomic_outputs else METAL_TYPES[dtype]
        parameters.append(Parameter(given, f"device {element}*", False, i, "output"))
    attributes = tuple(attribute for attribute in ATTRIBUTES if attribute in source)
    once_each([*(parameter.name for parameter in parameters), *attributes, *(given for _, given, _ in template)])
    return KernelText(function, tuple(parameters), attributes, tuple(template), header, source)


def _input_parameters(i: int, name: str, element: str, ndim: int, size: int, source: str) -> list[Parameter]:
    space = "constant" if size < CONSTANT_BELOW else "device"
    data = Parameter(name, f"const {space} {element}{'*' if ndim else '&'}", ndim == 0, i, "data")
    if ndim == 0:
        return [data]
    described = (
        Parameter(f"{name}_shape", "const constant int*", False, i, "shape"),
        Parameter(f"{name}_strides", "const constant int64_t*", False, i, "strides"),
        Parameter(f"{name}_ndim", "const constant int&", True, i, "ndim"),
    )
    return [data, *(parameter for parameter in described if parameter.name in source)]
