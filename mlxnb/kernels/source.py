"""The text of the Metal kernels, what each is put together from, and the kernel objects that MLX makes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "metal"

_ATTENTION = ("queries", "keys", "values", "mask", "scale")
_PACKED = ("queries", "keys", "key_scales", "key_biases", "values", "value_scales", "value_biases", "mask", "scale")
_PARTIALS = ("sums", "tops", "totals")


@dataclass(frozen=True, slots=True)
class Source:
    """One kernel: files of `metal/` for its functions and for its body, in order, and the names of its arrays.

    `includes` are Metal's own headers that MLX does not include for a custom kernel.
    """

    functions: tuple[str, ...]
    body: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ("out",)
    includes: tuple[str, ...] = ()

    @property
    def header(self) -> str:
        return "".join(f"#include <{name}>\n" for name in self.includes) + text(self.functions)


SOURCES = {
    "decode_quantized": Source(
        ("online_softmax", "affine"), ("decode_quantized", "leave_partials"), _PACKED, _PARTIALS
    ),
    "decode_dense": Source(("online_softmax",), ("decode_dense", "leave_partials"), _ATTENTION, _PARTIALS),
    "combine": Source(("online_softmax",), ("combine",), (*_PARTIALS, "sinks")),
    "prefill_dense": Source(
        ("online_softmax",), ("prefill_dense",), (*_ATTENTION, "sinks"), includes=("metal_simdgroup_matrix",)
    ),
    "decode_per_head": Source(("online_softmax",), ("decode_per_head",), ("queries", "keys", "values", "scale")),
}

# A decode kernel leaves what `combine` joins, so that a change to either is a change to both.
_TOGETHER = {"decode_quantized": ("decode_quantized", "combine"), "decode_dense": ("decode_dense", "combine")}


def text(files: tuple[str, ...]) -> str:
    """The files of `metal/`, one after the other."""
    return "\n".join((FOLDER / f"{file}.metal").read_text(encoding="utf-8") for file in files)


@lru_cache
def kernel_hash(name: str) -> str:
    """Twelve hexadecimal digits of the whole text that a kernel's name stands for; a measurement holds for one text."""
    parts = [SOURCES[part] for part in _TOGETHER.get(name, (name,))]
    return hashlib.sha256("\0".join(s.header + text(s.body) for s in parts).encode()).hexdigest()[:12]


@lru_cache
def built(name: str, metal_kernel: Callable[..., Any]) -> Any:
    """The kernel object of a name, made once for `mx.fast.metal_kernel` and once for the emulator's.

    Arrays come with their strides: MLX would otherwise copy a KV cache, a slice of a larger buffer, at every step.
    Each set of template values is compiled once, by MLX or the emulator.
    """
    source = SOURCES[name]
    return metal_kernel(
        name=f"mlxnb_{name}",
        input_names=list(source.inputs),
        output_names=list(source.outputs),
        header=source.header,
        source=text(source.body),
        ensure_row_contiguous=False,
    )
