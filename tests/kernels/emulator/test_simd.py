"""Functions of a simdgroup and a quadgroup against NumPy, in whole and in partly filled simdgroups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.emulator.run import Array, run

LANES = np.arange(32)


def _lines(expressions: dict[str, str], threads: int) -> str:
    return "\n".join(f"y[i + {k * threads}] = {text};" for k, text in enumerate(expressions.values()))


def _prefix(values: Array, product: bool, exclusive: bool) -> Array:
    total = np.cumprod(values) if product else np.cumsum(values)
    return np.concatenate([[1 if product else 0], total[:-1]]) if exclusive else total


REDUCTIONS = {
    "sum": np.sum,
    "product": np.prod,
    "max": np.max,
    "min": np.min,
    "and": np.bitwise_and.reduce,
    "or": np.bitwise_or.reduce,
    "xor": np.bitwise_xor.reduce,
}


@settings(max_examples=12)
@given(threads=st.integers(1, 70), seed=st.integers(0, 1000))
def test_reductions_and_prefixes(threads: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(-3, 4, threads).astype(np.int32)
    calls = {name: f"simd_{name}(x[i])" for name in REDUCTIONS}
    calls |= {f"quad {name}": f"quad_{name}(x[i])" for name in REDUCTIONS}
    kinds = [(e, p) for e in ("inclusive", "exclusive") for p in ("sum", "product")]
    calls |= {f"{e} {p}": f"simd_prefix_{e}_{p}(x[i])" for e, p in kinds}
    got, report = run(
        "\n".join(f"y[i * 18 + {k}] = {c};" for k, c in enumerate(calls.values())),
        {"x": values},
        (threads, 18),
        "int32",
        threads,
        128,
    )
    expected = np.empty((threads, 18), np.int64)
    for width, column in ((32, 0), (4, 7)):
        for start in range(0, threads, width):
            part = values[start : start + width]
            for k, function in enumerate(REDUCTIONS.values()):
                expected[start : start + width, column + k] = function(part)
    for start in range(0, threads, 32):
        for k, (exclusive, product) in enumerate(kinds):
            part = values[start : start + 32].astype(np.int64)
            expected[start : start + 32, 14 + k] = _prefix(part, product == "product", exclusive == "exclusive")
    np.testing.assert_array_equal(got, expected.astype(np.int32))
    assert report.simd_calls == 18 * -(-threads // 32)


@settings(max_examples=12)
@given(n=st.integers(0, 31), seed=st.integers(0, 1000))
def test_shuffles(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(32).astype(np.float32)
    sources = {
        f"simd_shuffle(x[i], ushort({n}))": np.full(32, n),
        f"simd_broadcast(x[i], ushort({n}))": np.full(32, n),
        f"simd_shuffle_xor(x[i], ushort({n}))": LANES ^ n,
        f"simd_shuffle_down(x[i], ushort({n}))": np.where(LANES + n < 32, LANES + n, LANES),
        f"simd_shuffle_up(x[i], ushort({n}))": np.where(n <= LANES, LANES - n, LANES),
        f"simd_shuffle_rotate_down(x[i], ushort({n}))": (LANES + n) % 32,
        f"simd_shuffle_rotate_up(x[i], ushort({n}))": (LANES - n) % 32,
        f"quad_shuffle_xor(x[i], ushort({n % 4}))": LANES ^ (n % 4),
        f"quad_broadcast(x[i], ushort({n % 4}))": LANES // 4 * 4 + n % 4,
        "simd_broadcast_first(x[i])": np.zeros(32, int),
    }
    # `n` goes in as an argument, so that one compiled kernel serves all examples.
    calls = {
        text: text.replace(f"ushort({n})", "ushort(n)").replace(f"ushort({n % 4})", "ushort(n % 4)") for text in sources
    }
    got, _ = run(_lines(calls, 32), {"x": values, "n": np.array(n, np.int32)}, (len(sources), 32), threads=32)
    for row, (text, lanes) in zip(got, sources.items(), strict=True):
        np.testing.assert_array_equal(row, values[lanes], text)


@settings(max_examples=10)
@given(n=st.integers(0, 31))
def test_shuffle_and_fill(n: int) -> None:
    source = """y[i] = simd_shuffle_and_fill_up(x[i], f[i], ushort(n));
    y[i + 32] = simd_shuffle_and_fill_down(x[i], f[i], ushort(n));"""
    x, fill = np.arange(32, dtype=np.float32), np.arange(100, 132, dtype=np.float32)
    got, _ = run(source, {"x": x, "f": fill, "n": np.array(n, np.int32)}, (2, 32), threads=32)
    both_up, both_down = np.concatenate([fill, x]), np.concatenate([x, fill])
    np.testing.assert_array_equal(got[0], both_up[32 - n : 64 - n])
    np.testing.assert_array_equal(got[1], both_down[n : n + 32])


@settings(max_examples=10)
@given(mask=st.integers(0, 2**32 - 1))
def test_votes(mask: int) -> None:
    source = """
    bool yes = (m >> i) & 1u;
    y[i] = uint(uint64_t(simd_ballot(yes)));
    y[i + 32] = simd_all(yes);
    y[i + 64] = simd_any(yes);
    y[i + 96] = simd_is_first();
    y[i + 128] = uint(uint64_t(simd_active_threads_mask()));
    """
    got, _ = run(source, {"m": np.array(mask, np.uint32)}, (5, 32), "uint32", threads=32)
    expected = [mask, mask == 2**32 - 1, mask != 0, LANES == 0, 2**32 - 1]
    for row, value in zip(got, expected, strict=True):
        np.testing.assert_array_equal(row, np.broadcast_to(value, 32))


def test_simd_functions_of_vectors_half_and_bfloat() -> None:
    source = """
    float2 v = simd_sum(float2(x[i], 1));
    y[i] = v.x; y[i + 32] = v.y; y[i + 64] = float(simd_max(half(x[i]))); y[i + 96] = float(simd_min(bfloat(x[i])));
    """
    x = np.arange(32, dtype=np.float32)
    got, _ = run(source, {"x": x}, (4, 32), threads=32)
    np.testing.assert_array_equal(got, np.broadcast_to([[496], [32], [31], [0]], (4, 32)))


@settings(max_examples=6)
@given(seed=st.integers(0, 1000))
def test_simdgroup_matrices_multiply(seed: int) -> None:
    a, b = np.random.default_rng(seed).standard_normal((2, 8, 8)).astype(np.float32)
    source = """
    simdgroup_float8x8 a, b, c = make_filled_simdgroup_matrix<float, 8, 8>(1.0f);
    simdgroup_load(a, p, 8);
    simdgroup_load(b, q, 8, ulong2(0, 0), true);
    simdgroup_multiply_accumulate(c, a, b, c);
    simdgroup_store(c, y, 8);
    """
    got, report = run(source, {"p": a, "q": b}, (8, 8), threads=32)
    np.testing.assert_allclose(got, a @ b.T + 1, rtol=1e-5, atol=1e-5)
    assert report.buffers["p"].read == 256


def test_threadgroup_reduction_over_several_simdgroups() -> None:
    source = """
    threadgroup float part[32];
    uint t = thread_index_in_threadgroup;
    float s = simd_sum(x[threadgroup_position_in_grid.x * 200 + t]);
    if (thread_index_in_simdgroup == 0) part[simdgroup_index_in_threadgroup] = s;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (simdgroup_index_in_threadgroup == 0) {
        s = simd_sum(t < simdgroups_per_threadgroup ? part[t] : 0.0f);
        if (t == 0) y[threadgroup_position_in_grid.x] = s;
    }
    """
    x = np.random.default_rng(0).standard_normal((5, 200)).astype(np.float32)
    got, report = run(source, {"x": x}, (5,), threads=1000, group=200)
    np.testing.assert_allclose(got, x.sum(1), rtol=1e-5)
    assert report.barriers == 5
    assert report.threadgroup["part"].written == 5 * 7 * 4


def test_two_calls_in_one_line_and_a_call_in_a_loop() -> None:
    source = """
    float s = simd_sum(x[i]) + simd_sum(2 * x[i]); for (int k = 0; k < 3; k++) s += simd_max(x[i] + k);
    y[i] = s;
    """
    got, report = run(source, {"x": np.arange(32, dtype=np.float32)}, (32,))
    assert (got == 3 * 496 + 31 + 32 + 33).all()
    assert report.simd_calls == 5


def test_lanes_that_leave_a_loop_early_are_reported() -> None:
    source = "float s = 0; for (uint k = 0; k <= i / 16; k++) s += simd_sum(1.0f); y[i] = s;"
    got, report = run(source, {}, (32,), clean=False)
    assert [(f.kind, f.count) for f in report.findings] == [("partial-simd", 1)]
    np.testing.assert_array_equal(got, np.repeat([32, 48], 16))


SUM = "float total(float v) {\n  return simd_sum(v);\n}"
BRANCHES = {
    "two lines": ("if (i % 2) s = simd_sum(1.0f);\nelse s = simd_sum(2.0f);", ""),
    "one line": ("if (i % 2) { s = simd_sum(1.0f); } else { s = simd_sum(2.0f); }", ""),
    "one expression": ("s = i % 2 ? simd_sum(1.0f) : metal::simd_sum(2.0f);", ""),
    "a function": ("if (i % 2) s = total(1.0f);\nelse s = total(2.0f);", SUM),
    "a function, one line": ("s = i % 2 ? total(1.0f) : total(2.0f);", SUM),
    "a function that is not inlined": (
        "if (i % 2) s = total(1.0f);\nelse s = total(2.0f);",
        "__attribute__((noinline)) " + SUM,
    ),
    "a function that is not inlined, one line": (
        "s = i % 2 ? total(1.0f) : total(2.0f);",
        "__attribute__((noinline)) " + SUM,
    ),
    "functions in functions": (
        "if (i % 2) s = outer(1.0f);\nelse s = outer(2.0f);",
        SUM + "\n__attribute__((noinline)) float outer(float v) { return total(v) + 0.0f; }",
    ),
    "a template": (
        "s = i % 2 ? total<float>(1.0f) : total<float>(2.0f);",
        "template <typename T> T total(T v) { return simd_sum(v); }",
    ),
}


@pytest.mark.parametrize(("body", "header"), BRANCHES.values(), ids=BRANCHES.keys())
def test_the_lanes_of_two_branches_do_not_meet(body: str, header: str) -> None:
    got, report = run(f"float s;\n{body}\ny[i] = s;", {}, (32,), header=header, clean=False)
    np.testing.assert_array_equal(got, np.where(LANES % 2, 16, 32))
    assert {finding.kind for finding in report.findings} == {"partial-simd"}
    assert report.simd_calls == 2


# The compiler makes a copy of what follows for each of the two branches, and one copy of a loop's body for each round.
COPIED = """
bool low = i % 4 < 2;
float s = 0;
#pragma GCC unroll 4
for (int k = 0; k < 4; k++) {
  if (low) s += 1;
  s += simd_sum(1.0f);
  threadgroup_barrier(mem_flags::mem_none);
  if (low) s *= 2; else s *= 3;
}
y[i] = s;
"""


def test_copies_of_one_call_are_one_call() -> None:
    got, report = run(COPIED, {}, (64,))
    expected = np.zeros(64)
    low = np.arange(64) % 4 < 2
    for _ in range(4):
        expected = (expected + low + 32) * np.where(low, 2, 3)
    np.testing.assert_array_equal(got, expected)
    assert (report.simd_calls, report.barriers) == (8, 4)


def test_without_addr2line_a_line_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlxnb.kernels.emulator.launch.line_tool", lambda: None)
    assert run(COPIED, {}, (64,))[1].simd_calls == 8
