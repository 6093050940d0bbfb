"""Compiles kernels, the header they share, and the runner; everything is kept by content."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from ...errors import KernelError
from .cache import NATIVE, digest, kept, native_digest
from .diagnostics import compile_error, refusal
from .rewrite import to_cpp
from .signature import KernelText
from .swizzles import swizzles
from .tokens import RefusedError
from .toolchain import Compiler

# Metal's own headers, and those of MLX that say for its compiler what native/ says here.
_METAL_HEADERS = (
    *("metal_atomic", "metal_common", "metal_compute", "metal_config", "metal_geometric", "metal_integer"),
    *("metal_limits", "metal_logging", "metal_math", "metal_matrix", "metal_pack", "metal_quadgroup"),
    *("metal_relational", "metal_simdgroup", "metal_simdgroup_matrix", "metal_stdlib", "metal_type_traits"),
    *("metal_types", "mlx/backend/metal/kernels/bf16_math.h"),
)
_WITHOUT_MLX = "using namespace metal;\ntypedef half float16_t;\ntypedef bfloat bfloat16_t;\n"


@dataclass(frozen=True, slots=True)
class Built:
    """A compiled kernel, and the runner that can load it."""

    library: Path
    runner: Path


def build(text: KernelText, compiler: Compiler, checks: bool) -> Built:
    """Compile a kernel, or find it compiled.

    Raises:
        KernelCompileError: the kernel's text is not right; `.line` says where.
        KernelError: the cache folder cannot be written, or the compiler cannot compile the native sources.
    """
    identity = _identity(compiler)
    runner = kept(f"runner-{digest(identity)}", lambda path: _compile_runner(compiler, path))
    marked = text.marked(_prelude())
    name = f"kernel-{digest(identity, str(checks), _mlx_identity(), marked, text.entry())}.so"
    return Built(kept(name, lambda path: _compile_kernel(text, marked, compiler, checks, path)), runner)


def _compile_kernel(text: KernelText, marked: str, compiler: Compiler, checks: bool, path: Path) -> None:
    flags = compiler.language() + (compiler.checks() if checks else [])
    preprocessed = path.with_suffix(".metal")
    preprocessed.write_text(marked)
    answer = _run([*compiler.command, "-E", "-x", "c++", *_preprocessing(compiler), str(preprocessed)])
    if answer.returncode:
        raise compile_error(answer.stderr, text)
    try:
        cpp = to_cpp(_without_builtins(answer.stdout))
    except RefusedError as error:
        raise refusal(error, text) from None
    code, unit = path.with_suffix(".cpp"), path.with_suffix(".o")
    code.write_text(f'#include "metal.h"\n{cpp}{text.entry()}')
    header = _header(compiler, flags)
    use = ["-include-pch", f"{header}/metal.h.pch"] if compiler.kind == "clang++" else ["-I", str(header)]
    use += ["-I", str(NATIVE), "-I", str(_swizzles())]
    answer = _run([*compiler.command, *flags, *use, "-c", str(code), "-o", str(unit)])
    if answer.returncode:
        raise compile_error(answer.stderr, text)
    # Linked without -fsanitize, so that the compiler's own runtime stays out: the runner answers its calls.
    answer = _run([*compiler.command, "-shared", str(unit), "-o", str(path), "-lm"])
    if answer.returncode:
        raise compile_error(answer.stderr, text)


def _swizzles() -> Path:
    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / "swizzles.inc").write_text(swizzles())

    return kept(f"swizzles-{digest(swizzles())}", make)


def _header(compiler: Compiler, flags: list[str]) -> Path:
    """The folder with the header of the whole language, compiled beforehand for these flags."""

    def make(folder: Path) -> None:
        folder.mkdir()
        result = folder / ("metal.h.pch" if compiler.kind == "clang++" else "metal.h.gch")
        include = ["-I", str(_swizzles()), str(NATIVE / "metal.h")]
        _native([*compiler.command, *flags, "-x", "c++-header", *include, "-o", str(result)])

    return kept(f"header-{digest(_identity(compiler), *flags)}", make)


def _compile_runner(compiler: Compiler, path: Path) -> None:
    options = ["-O2", "-std=gnu++17", "-fno-exceptions", "-fno-rtti", "-w", "-rdynamic"]
    _native([*compiler.command, *options, str(NATIVE / "runner" / "main.cpp"), "-o", str(path), "-ldl"])


def _native(command: list[str]) -> None:
    answer = _run(command)
    if answer.returncode:
        first = next((line for line in answer.stderr.split("\n") if "error" in line), answer.stderr[:200].strip())
        raise KernelError(
            f"{command[0]} cannot compile the emulator's own sources: {first}", "Try another one with CXX=…."
        )


def _preprocessing(compiler: Compiler) -> list[str]:
    stubs = kept(f"stubs-{digest(native_digest(), *_METAL_HEADERS)}", _make_stubs)
    options = ["-nostdinc", "-std=gnu++17", "-D__METAL__=1", "-D__METAL_VERSION__=310", "-I", str(stubs)]
    mlx = mlx_headers()
    return [*options, *(["-I", str(mlx)] if mlx else []), "-include", str(NATIVE / "macros.h")]


def _make_stubs(folder: Path) -> None:
    for name in _METAL_HEADERS:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("// Types and functions come from metal.h, macros from macros.h.\n")


def _without_builtins(text: str) -> str:
    return re.sub(r'^# \d+ "<(?:built-in|command[- ]line)>".*$', "", text, flags=re.M)


def _prelude() -> str:
    return '#include "mlx/backend/metal/kernels/utils.h"' if mlx_headers() else _WITHOUT_MLX


@lru_cache
def mlx_headers() -> Path | None:
    """The folder of MLX's Metal headers, which every body that MLX compiles can see; None without MLX."""
    spec = find_spec("mlx")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / "include/mlx/backend/metal/kernels/utils.h").exists():
            return Path(folder) / "include"
    return None


@lru_cache
def _mlx_identity() -> str:
    headers = mlx_headers()
    if not headers:
        return "none"
    folder = headers / "mlx/backend/metal/kernels"
    return digest(*((folder / name).read_bytes() for name in ("utils.h", "bf16.h", "complex.h", "defines.h")))


@lru_cache
def _identity(compiler: Compiler) -> str:
    """What compiled code depends on besides its own text: compiler, native sources and their place, processor."""
    processor = platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            processor += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return digest(
        *compiler.command,
        compiler.title,
        native_digest(),
        str(NATIVE),  # by which lines of the native sources are known from the kernel's own
        swizzles(),
        processor,
        *compiler.language(),
        *compiler.checks(),
    )


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, env={**os.environ, "LC_ALL": "C"}
    )
