"""metal::'s functions against NumPy's, in float, half and bfloat, as scalars and as vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.kernels.emulator.run import Array, bfloat16_bits, run, typed, widened

# Each takes numbers of [-3, 3] into its own domain first: the same expression in both languages.
UNARY = {
    "acos": ("x / 4", np.arccos),
    "acosh": ("x * x + 1", np.arccosh),
    "asin": ("x / 4", np.arcsin),
    "asinh": ("x", np.arcsinh),
    "atan": ("x", np.arctan),
    "atanh": ("x / 4", np.arctanh),
    "ceil": ("x", np.ceil),
    "cos": ("x", np.cos),
    "cosh": ("x", np.cosh),
    "cospi": ("x", lambda x: np.cos(np.pi * x)),
    "exp": ("x", np.exp),
    "exp10": ("x", lambda x: 10.0**x),
    "exp2": ("x", np.exp2),
    "fabs": ("x", np.abs),
    "floor": ("x", np.floor),
    "fract": ("x", lambda x: x - np.floor(x)),
    "log": ("x * x + 1", np.log),
    "log10": ("x * x + 1", np.log10),
    "log2": ("x * x + 1", np.log2),
    "rint": ("x", np.rint),
    "round": ("x", lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5)),
    "rsqrt": ("x * x + 1", lambda x: 1 / np.sqrt(x)),
    "saturate": ("x", lambda x: np.clip(x, 0, 1)),
    "sign": ("x", np.sign),
    "sin": ("x", np.sin),
    "sinh": ("x", np.sinh),
    "sinpi": ("x", lambda x: np.sin(np.pi * x)),
    "sqrt": ("x * x", np.sqrt),
    "tan": ("x / 4", np.tan),
    "tanh": ("x", np.tanh),
    "trunc": ("x", np.trunc),
}
BINARY = {
    "atan2": np.arctan2,
    "copysign": np.copysign,
    "divide": lambda a, b: a / b,
    "fdim": lambda a, b: np.maximum(a - b, 0),
    "fmax": np.maximum,
    "fmin": np.minimum,
    "fmod": np.fmod,
    "max": np.maximum,
    "min": np.minimum,
    "step": lambda a, b: (b >= a).astype(float),
}
TYPES = {"float32": ("float", 2e-6), "float16": ("half", 2e-3), "bfloat16": ("bfloat", 1.6e-2)}
# Sixty-fourths, which every one of the types can hold.
numbers = hnp.arrays(np.int32, 8, elements=st.integers(-192, 192)).map(lambda n: (n / 64).astype(np.float32))


def _near(got: Array, expected: Array, dtype: str) -> None:
    values = widened(got) if dtype == "bfloat16" else got.astype(np.float64)
    tolerance = TYPES[dtype][1]
    np.testing.assert_allclose(values, expected, rtol=tolerance, atol=tolerance)


def _rounded(values: Array, dtype: str) -> Array:
    return (widened(bfloat16_bits(values)) if dtype == "bfloat16" else values.astype(dtype)).astype(np.float64)


@pytest.mark.parametrize("dtype", TYPES)
@settings(max_examples=10)
@given(x=numbers)
def test_unary_functions(dtype: str, x: Array) -> None:
    element, spaces = TYPES[dtype][0], ("", "metal::", "fast::", "precise::")
    lines = [
        f"{{ {element} x = {element}({argument.replace('x', 'float(v[i])')}); "
        f"y[i + {8 * k}] = {spaces[k % 4]}{name}(x); }}"
        for k, (name, (argument, _)) in enumerate(UNARY.items())
    ]
    got, _ = run("\n".join(lines), {"v": typed(x, dtype)}, (len(UNARY), 8), dtype, threads=8)
    x64 = _rounded(x, dtype)
    for row, (argument, function) in zip(got, UNARY.values(), strict=True):
        inside = eval(argument, {"x": x64.astype(np.float32)})
        _near(row, function(_rounded(inside.astype(np.float32), dtype)), dtype)


@pytest.mark.parametrize("dtype", TYPES)
@settings(max_examples=10)
@given(a=numbers, b=numbers.map(lambda x: np.where(x == 0, np.float32(1), x)))
def test_binary_functions(dtype: str, a: Array, b: Array) -> None:
    lines = [f"y[i + {8 * k}] = metal::{name}(a[i], b[i]);" for k, name in enumerate(BINARY)]
    got, _ = run("\n".join(lines), {"a": typed(a, dtype), "b": typed(b, dtype)}, (len(BINARY), 8), dtype, threads=8)
    for row, function in zip(got, BINARY.values(), strict=True):
        _near(row, function(_rounded(a, dtype), _rounded(b, dtype)), dtype)


@settings(max_examples=10)
@given(x=hnp.arrays(np.float32, (8, 4), elements=st.floats(-3, 3, width=16)))
def test_vectors_compute_element_by_element(x: Array) -> None:
    source = """
    float4 v = ((const device float4*)x)[i];
    device float4* out = (device float4*)y + i * 6;
    out[0] = exp(v) + v * 2 - 1;
    out[1] = v.wzyx * v.xxyy;
    out[2] = float4(v.xy, v.z, 5);
    out[3] = select(v, float4(0), v < 0);
    out[4] = float4(dot(v, v), length(v.xyz), float(any(v > 1)), 0);
    out[4].w = metal::sqrt(v.xz * v.xz).y + simd_sum(v.xy).x * 0;
    out[5] = clamp(v, -1.0f, 1.0f) + max(v, 0.5f) + mix(v, float4(1), 0.25f);
    """
    got, report = run(source, {"x": x}, (8, 6, 4), threads=8)
    v = x.astype(np.float64)
    expected = np.stack(
        [
            np.exp(v) + 2 * v - 1,
            v[:, ::-1] * v[:, [0, 0, 1, 1]],
            np.concatenate([v[:, :3], np.full((8, 1), 5.0)], 1),
            np.where(v < 0, 0, v),
            np.stack([(v * v).sum(1), np.sqrt((v[:, :3] ** 2).sum(1)), (v > 1).any(1), np.abs(v[:, 2])], 1),
            np.clip(v, -1, 1) + np.maximum(v, 0.5) + v * 0.75 + 0.25,
        ],
        1,
    )
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert (report.buffers["x"].read, report.buffers["x"].reads) == (128, 8)  # one load of 16 bytes a thread


@settings(max_examples=20)
@given(a=hnp.arrays(np.int32, 8), b=hnp.arrays(np.int32, 8))
def test_integer_functions(a: Array, b: Array) -> None:
    lines = ["max(p, q)", "min(p, q)", "abs(p >> 1)", "popcount(p)", "clz(p)", "ctz(p)", "int(reverse_bits(uint(p)))"]
    lines += [
        "mulhi(p, q)",
        "int(addsat(p, q))",
        "int(subsat(p, q))",
        "int(rotate(uint(p), uint(q)))",
        "p + q",
        "p * q",
    ]
    lines += [
        "int(extract_bits(uint(p), 4u, 9u))",
        "int(insert_bits(uint(p), uint(q), 4u, 9u))",
        "as_type<int>(as_type<float>(p & 0x7f7fffff))",
    ]
    body = "int p = a[i], q = b[i];" + "".join(f"y[i + {8 * k}] = {line};" for k, line in enumerate(lines))
    got, _ = run(body, {"a": a, "b": b}, (len(lines), 8), "int32", threads=8)
    for column in range(8):
        p, q = int(a[column]), int(b[column])
        up, uq = p % 2**32, q % 2**32
        bits = f"{up:032b}"
        turn = uq % 32
        expected = [max(p, q), min(p, q), abs(p >> 1), bits.count("1"), 32 - up.bit_length()]
        expected += [32 if up == 0 else bits[::-1].index("1"), int(bits[::-1], 2), (p * q) >> 32]
        expected += [min(max(p + q, -(2**31)), 2**31 - 1), min(max(p - q, -(2**31)), 2**31 - 1)]
        expected += [(up << turn | up >> (32 - turn)) % 2**32, p + q, p * q, (up >> 4) % 512]
        expected += [(up & ~(511 << 4)) | (uq % 512) << 4, up & 0x7F7FFFFF]
        assert [int(v) % 2**32 for v in got[:, column]] == [v % 2**32 for v in expected]


@settings(max_examples=50)
@given(x=hnp.arrays(np.float32, 16, elements=st.floats(width=32, allow_nan=False)))
def test_bfloat_rounds_to_nearest_even(x: Array) -> None:
    got, _ = run("y[i] = bfloat16_t(x[i]);", {"x": x}, (16,), "bfloat16")
    np.testing.assert_array_equal(got, bfloat16_bits(x))


@settings(max_examples=25)
@given(
    a=hnp.arrays(np.float16, 16, elements=st.floats(-50, 50, width=16)),
    b=hnp.arrays(np.float16, 16, elements=st.floats(-50, 50, width=16)),
)
def test_half_rounds_at_each_operation(a: Array, b: Array) -> None:
    got, _ = run("half t = a[i] * b[i]; y[i] = t + a[i] - 0.1h;", {"a": a, "b": b}, (16,), "float16")
    np.testing.assert_array_equal(got, (a * b + a) - np.float16(0.1))


def test_literals_are_float() -> None:
    got, _ = run("y[i] = x[i] * 0.1 + 1e-3;", {"x": np.float32([3, 7])}, (2,))
    np.testing.assert_array_equal(got, np.float32([3, 7]) * np.float32(0.1) + np.float32(1e-3))
