"""Metal that is not C++: address spaces, threadgroup variables, overloads, swizzles, literals, the preprocessor."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.emulator.run import run

X = np.arange(8, dtype=np.float32)

PROGRAMS = {
    "overloads by address space": (
        """
        inline float first(const device float* p) { return p[0]; }
        inline float first(const threadgroup float* p) { return p[0]; }
        inline float first(constant float* p) { return p[0]; }
        constant float table[3] = {5, 6, 7};
        """,
        "threadgroup float t[2]; if (i == 0) t[0] = 1, t[1] = 2; threadgroup_barrier(mem_flags::mem_threadgroup);"
        "y[i] = first(x + i) + first(&t[1]) + first(table + 2);",
        X + 9,
    ),
    "templates over pointers and sizes": (
        """
        template <typename T, int N> inline T total(const device T* p) {
            T s = 0;
            for (int k = 0; k < N; k++) s += p[k];
            return s;
        }
        """,
        "y[i] = total<float, 4>(x) + (sizeof(float) < 8 ? 1 : 0);",
        np.full(8, 7),
    ),
    "a struct with members of every address space": (
        """
        struct Pair {
            float a, b;
            Pair(float a, float b) thread : a(a), b{b} {}
            float sum() const thread { return a + b; }
            float sum() const device { return a + b; }
            float operator()(float c) const thread { return a + b + c; }
        };
        """,
        "Pair p(x[i], 2); y[i] = p.sum() + p(1);",
        2 * X + 5,
    ),
    "several threadgroup variables in one declaration": (
        "",
        """
        threadgroup float tile[8][9], row[8]; threadgroup int n;
        tile[i][8] = x[i]; row[i] = 1; if (i == 0) n = 3;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        y[i] = tile[7 - i][8] + row[i] + n;
        """,
        X[::-1] + 4,
    ),
    "a threadgroup array of a template's size, passed to a function": (
        """
        template <int N> inline float sum(threadgroup float* buffer, uint t, float v) {
            buffer[t] = v;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            float s = 0;
            for (int k = 0; k < N; k++) s += buffer[k];
            return s;
        }
        """,
        "constexpr int N = 8; threadgroup float buffer[N * 2]; y[i] = sum<N>(buffer, i, x[i]);",
        np.full(8, 28),
    ),
    "swizzles are read and written": (
        "",
        "float4 v(x[i], 1, 2, 3); v.xy = v.yx; v.zw += float2(10, 20); v.rgb *= 2.0f; y[i] = v.y + v.w + v.b + v[0];",
        2 * X + 23 + 24 + 2,
    ),
    "vectors of other types": (
        "",
        """
        uchar4 c = uchar4(200, 100, 50, 25); c += uchar4(100);
        half2 h = half2(0.5h, x[i]); int3 n = int3(uint3(1, 2, 3));
        bool4 b = uint4(1, 0, 1, 0) == 1; packed_float3 p = float3(1, 2, 3);
        y[i] = c.x + float(h.y) + n.z + int(b.x) + sizeof(packed_float3) + p[1];
        """,
        X + 44 + 3 + 1 + 12 + 2,
    ),
    "as_type": (
        "",
        "y[i] = as_type<float>(as_type<uint>(x[i]) ^ 0x80000000u); y[i] += as_type<half2>(0x3c00u).x;",
        1 - X,
    ),
    "the preprocessor": (
        "#define TWICE(v) ((v) * 2)\n",
        "\n#if __METAL_VERSION__ >= 300\ny[i] = TWICE(x[i]) + M_PI_F * 0;\n#endif",
        2 * X,
    ),
    "literals": (
        "",
        "half h = 1.5h; bfloat b = 2.0bf; y[i] = h + float(b) + 1e1 + .5 + 0x10 + 3u + 1.f;",
        np.full(8, 34),
    ),
    "switch, loops and early returns": (
        "",
        "float s = 0; for (uint k = 0;; k++) { if (k > i) break;"
        " switch (k % 3) { case 0: s += 1; break; default: s += 2; } }"
        " y[i] = s; return;",
        np.cumsum([1, 2, 2, 1, 2, 2, 1, 2]),
    ),
    "unions of vectors": (
        "union Bits { float4 f; uint4 u; };\n",
        "Bits b; b.f = float4(x[i]); Bits c = b; c.u.x ^= 0x80000000u; y[i] = c.f.x + c.f.y + 1;",
        np.ones(8),
    ),
}


@pytest.mark.parametrize(("header", "source", "expected"), PROGRAMS.values(), ids=PROGRAMS.keys())
def test_program(header: str, source: str, expected: np.ndarray) -> None:
    got, _ = run(source, {"x": X}, (8,), header=header)
    np.testing.assert_allclose(got, expected)
