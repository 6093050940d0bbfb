"""What other machines need: fibers by ucontext, and another compiler where there is one."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from mlxnb.kernels.emulator import build, compiler, toolchain
from tests.kernels.emulator.planted import BUGS
from tests.kernels.emulator.run import run

SOURCE = """
threadgroup float part[4];
float s = simd_sum(x[i]);
if (thread_index_in_simdgroup == 0) part[simdgroup_index_in_threadgroup] = s;
threadgroup_barrier(mem_flags::mem_threadgroup);
y[i] = part[0] + part[1] + part[2] + part[3];
"""
CLANG = next(
    (name for name in ("clang++-19", "clang++-18", "clang++-17", "clang++-16", "clang++") if shutil.which(name)), None
)


def _sums() -> None:
    x = np.arange(128, dtype=np.float32)
    got, report = run(SOURCE, {"x": x}, (128,), group=128)
    assert (got == x.sum()).all()
    assert (report.simd_calls, report.barriers) == (4, 1)


ARM = "aarch64-linux-gnu-g++"


@pytest.mark.skipif(not shutil.which(ARM) or not shutil.which("qemu-aarch64"), reason="there is no arm64 to emulate")
def test_arm64(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The arm64 build: its fibers, and the frames by which two calls are told apart."""
    compile_runner = build._compile_runner

    def emulated_runner(compiler: toolchain.Compiler, path: Path) -> None:
        compile_runner(compiler, tmp_path / path.name)
        command = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", str(tmp_path / path.name)]
        path.write_text(f"""#!/bin/sh\nexec {shlex.join(command)} "$@"\nexit\n""")
        path.chmod(0o755)

    monkeypatch.setattr(build, "_compile_runner", emulated_runner)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setitem(toolchain._OLDEST, "g++", 12)  # which has no _Float16 for arm64; its own half will do
    monkeypatch.setenv("CXX", f"{ARM} -D_Float16=__fp16")
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path))  # the identity of compiled code is remembered by compiler
    _sums()
    for name in ("one barrier by two calls", "wild write"):
        bug = BUGS[name]
        assert (bug.kind, bug.line) in [(f.kind, f.line) for f in bug.run(bug.source).findings]


def test_fibers_by_ucontext(monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("g++"):
        pytest.skip("there is no g++")
    monkeypatch.setenv("CXX", "g++ -DMLXNB_UCONTEXT")
    _sums()
    for name in ("no barrier", "endless loop", "too much private memory"):
        bug = BUGS[name]
        assert (bug.kind, bug.line) in [(f.kind, f.line) for f in bug.run(bug.source).findings]


@pytest.mark.skipif(CLANG is None, reason="there is no clang++")
def test_clang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", CLANG or "")
    if "clang" not in str(compiler()):
        pytest.skip(f"{CLANG} is too old")
    _sums()
    for name in (
        "read past the end",
        "private array",
        "output read first",
        "race on device memory",
        "integer division",
        "two barriers on one line",
        "one barrier by two calls",
        "a sum in each branch of one line",
    ):
        bug = BUGS[name]
        assert (bug.kind, bug.line, bug.buffer) in [(f.kind, f.line, f.buffer) for f in bug.run(bug.source).findings]
        assert bug.run(bug.mended).findings == ()
