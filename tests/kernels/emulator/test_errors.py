"""A kernel that does not compile, names that it cannot have, no compiler: one clear message each."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mlxnb.errors import CompilerMissingError, KernelCompileError
from mlxnb.kernels.emulator import Kernel, compiler
from tests.kernels.emulator.run import typed

LINE = "uint i = thread_position_in_grid.x;\n"
WRONG = {
    "unknown name": (LINE + "y[i] = foo(x[i]);", "", 2, "'foo'"),
    "no semicolon": (LINE + "float a = x[i]; b\ny[i] = a;", "", 2, "'b'"),
    "brace left open": (LINE + "if (i > 3) {\n  y[i] = 1;\n", "", 2, "'{' has no partner"),
    "brace too many": (LINE + "y[i] = 1;\n}", "", 3, "'}' has no partner"),
    "two vector types": (
        LINE + "\nint4 w = int4(1);\nfloat4 v = w + float4(1);\ny[i] = v.x;",
        "",
        4,
        "no implicit conversion",
    ),
    "vector not filled": (LINE + "float4 v = float4(x[i], 1);\ny[i] = v.x;", "", 2, "fill it exactly"),
    "ambiguous": (LINE + "y[i] = max(x[i], 0);", "", 2, "ambiguous"),
    "input written": (LINE + "y[i] = 1;\nx[i] = 1;", "", 3, "\n    3 | x[i] = 1;"),
    "double": (LINE + "double d = x[i];\ny[i] = d;", "", 2, "Metal has no double"),
    "threadgroup in a loop's head": (LINE + "for (threadgroup float q = 0;;) {}", "", 2, "no threadgroup variable"),
    "under a macro": ("#define Q foo\n\n" + LINE + "y[i] = Q;", "", 4, "foo"),
    "in the header": (
        LINE + "y[i] = f(x[i]);",
        "inline float f(float a) {\n  return a * b;\n}\n",
        None,
        "Header, line 2: ",
    ),
    "two calls on a line": (LINE + "y[i] = simd_sum(x[i]) + simd_max(foo);", "", 2, "'foo'"),
    "line directive": (LINE + '# 99 "kernel.source"\n #line 7\ny[i] = foo;', "", 4, "'foo'"),
    "static": (LINE + "static int n = 0;\ny[i] = n++;", "", 2, "'n' is a static variable"),
    "static in a function": (
        LINE + "y[i] = f();",
        "inline int f() {\n  static int n;\n  return n++;\n}",
        None,
        "Header, line 2: 'n' is",
    ),
    "global": (LINE + "y[i] = g++;", "\nint g = 0;", None, "Header, line 2: 'g' is a variable outside all functions"),
    "global array": (LINE + "y[i] = g[0];", "namespace n {\nfloat g[3];\n}", None, "Header, line 2: 'g' is"),
    "global threadgroup": (LINE + "y[i] = g[0];", "threadgroup float g[3];", None, "Header, line 1: 'g' is"),
    "include": (LINE + "y[i] = 1;", '\n#include "nowhere.h"\n', None, "nowhere.h"),
}


def _run(source: str, header: str = "") -> None:
    x = typed(np.ones(8, np.float32))
    Kernel("k", ("x",), ("y",), source, header).run([x], [(8,)], ["float32"], (8, 1, 1), (8, 1, 1))


@pytest.mark.parametrize(("source", "header", "line", "words"), WRONG.values(), ids=WRONG.keys())
def test_does_not_compile(source: str, header: str, line: int | None, words: str) -> None:
    with pytest.raises(KernelCompileError) as caught:
        _run(source, header)
    assert caught.value.line == line
    assert words in caught.value.message
    assert len(caught.value.message) < 600
    if line is not None:
        assert f"{line} | {source.split(chr(10))[line - 1]}".rstrip() in caught.value.message


def test_only_the_first_errors_are_shown() -> None:
    with pytest.raises(KernelCompileError, match="and 5 more") as caught:
        _run(LINE + "\n".join(f"y[i] = missing{k};" for k in range(8)))
    assert (caught.value.line, caught.value.message.count("'missing")) == (2, 3)


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "")
    found = compiler()
    assert not found
    assert "there is no g++ or clang++" in found.reason
    with pytest.raises(CompilerMissingError, match="Install one"):
        _run(LINE + "y[i] = 1;")


@pytest.mark.parametrize(("platform", "remedy"), [("win32", "WSL"), ("darwin", "mx.fast.metal_kernel")])
def test_other_systems(monkeypatch: pytest.MonkeyPatch, platform: str, remedy: str) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv("CXX", f"a-compiler-of-{platform}")  # what was found before is remembered by this
    found = compiler()
    assert not found
    assert remedy in found.remedy


def test_a_compiler_that_is_too_old_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "g++"
    old.write_text("#!/bin/sh\necho 'g++ (Somebody 9.4.0) 9.4.0'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = compiler()
    assert not found
    assert "9.4.0 is too old" in str(found)


def test_the_compiler_that_cxx_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = tmp_path / "my compiler"
    named.write_text(f'#!/bin/sh\nexec {os.environ.get("CXX") or "g++"} "$@"\n')
    named.chmod(0o755)
    monkeypatch.setenv("CXX", f"'{named}'")
    assert str(named) in str(compiler())


def test_constants_outside_functions_and_in_them() -> None:
    header = """
    constant float table[2] = {1, 2};
    static constexpr constant int N = 3;
    template <typename T> constant T zero = T(0);
    struct S { int a; };
    enum E { one };
    typedef float F;
    using G = float;
    float declared(float);
    template <typename T> T f(T v) { static constexpr constant int k[1] = {1}; return v + k[0]; }
    template float f<float>(float);
    """
    _run(LINE + "static const float c[1] = {1}; y[i] = table[0] + N + zero<float> + f(c[0]);", header)


def test_a_line_directive_does_not_move_findings() -> None:
    x = typed(np.ones(8, np.float32))
    kernel = Kernel("k", ("x",), ("y",), LINE + '# 99 "kernel.source"\ny[i] = x[i + 1];')
    report = kernel.run([x], [(8,)], ["float32"], (8, 1, 1), (8, 1, 1))[1]
    assert [(finding.kind, finding.line) for finding in report.findings] == [("out-of-bounds", 3)]


@pytest.mark.parametrize("name", ["for", "half", "1a", "", "a b", "größe"])
def test_names_that_no_array_can_have(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of an array"):
        Kernel("k", ("x",), (name,), "")


@pytest.mark.parametrize("name", ["x", "x_shape", "thread_position_in_grid"])
def test_names_given_twice(name: str) -> None:
    source = LINE + f"{name}[i] = x_shape[0];"
    with pytest.raises(ValueError, match=f"Two arguments of the kernel are called '{name}'"):
        Kernel("k", ("x",), (name,), source).text([typed(np.ones(8, np.float32))], ["float32"], ())
