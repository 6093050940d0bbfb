"""Kernels with one planted bug each, beside the line that mends it, and what the sanitizer must say of them.

A line's `// MEND` gives the text that stands there in the mended kernel; `// HERE` marks the line of the finding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mlxnb.kernels.emulator import Kernel, Report, Typed

SIZE = 64
WAIT = "inline void wait(mem_flags flags) {\n  threadgroup_barrier(flags); // HERE\n}\n"
ATOMICS = """
#define SET(p, v) atomic_store_explicit(p, v, memory_order_relaxed)
#define GET(p) atomic_load_explicit(p, memory_order_relaxed)
#define ADD(p) atomic_fetch_add_explicit(p, 1, memory_order_relaxed)
"""


@dataclass(frozen=True)
class Bug:
    """A body over `x` float32 [64] → `y` float32 [64], run by 64 threads in threadgroups of `group`."""

    kind: str
    source: str
    buffer: str = ""
    words: str = ""
    grade: str = "error"
    group: int = 64
    time_limit: float = 20.0
    header: str = ""
    part: str = "source"

    @property
    def line(self) -> int | None:
        text = self.header if self.part == "header" else self.source
        return next((i for i, line in enumerate(text.split("\n"), 1) if "// HERE" in line), None)

    @property
    def mended(self) -> str:
        return re.sub(r"^.*// MEND", "", self.source, flags=re.M)

    def run(self, source: str, checks: bool = True) -> Report:
        kernel = Kernel("planted", ("x",), ("y",), "uint i = thread_position_in_grid.x;" + source, self.header)
        x = Typed(np.arange(SIZE, dtype=np.float32), "float32")
        grid, group = (SIZE, 1, 1), (self.group, 1, 1)
        return kernel.run([x], [(SIZE,)], ["float32"], grid, group, checks=checks, time_limit=self.time_limit)[1]


BUGS = {
    "read past the end": Bug(
        "out-of-bounds",
        """
        y[i] = x[i + 1]; // HERE // MEND y[i] = x[min(i + 1, 63u)];
        """,
        "x",
        "thread (63, 0, 0) of threadgroup (0, 0, 0) reads element 64 of buffer x; it has 64.",
    ),
    "read before the start": Bug(
        "out-of-bounds",
        """
        int before = int(i) - 1; // MEND int before = max(int(i) - 1, 0);
        y[i] = x[before]; // HERE // MEND y[i] = x[before];
        """,
        "x",
        "reads element -1 of buffer x",
    ),
    "wild write": Bug(
        "out-of-bounds",
        """
        y[i * 1000000] = x[i]; // HERE // MEND y[i] = x[i];
        """,
        "y",
        "thread (1, 0, 0) of threadgroup (0, 0, 0) writes element 1000000 of buffer y",
    ),
    "half of a vector outside": Bug(
        "out-of-bounds",
        """
        const device packed_float4* vectors = (const device packed_float4*)(x + 2);
        y[i] = float4(vectors[i % 16]).x; // HERE // MEND y[i] = float4(vectors[i % 15]).x;
        """,
        "x",
        "of buffer x; it has 64.",
    ),
    "threadgroup array": Bug(
        "out-of-bounds",
        """
        threadgroup float part[32]; // MEND threadgroup float part[64];
        part[i] = x[i]; // HERE // MEND part[i] = x[i];
        y[i] = part[i];
        """,
        "part",
        "uses element 32 of part",
    ),
    "threadgroup array by pointer": Bug(
        "out-of-bounds",
        """
        threadgroup float part[32]; // MEND threadgroup float part[64];
        threadgroup float* p = part;
        p[i] = x[i]; // HERE // MEND p[i] = x[i];
        y[i] = p[i];
        """,
        "part",
        "writes element 32 of threadgroup array part; it has 32.",
    ),
    "private array": Bug(
        "out-of-bounds",
        """
        float mine[4];
        for (uint k = 0; k < 4; k++) mine[k] = x[i];
        y[i] = mine[i % 8]; // HERE // MEND y[i] = mine[i % 4];
        """,
        "mine",
        "uses element 4 of mine",
    ),
    "output read first": Bug(
        "uninitialised",
        """
        // MEND y[i] = 0;
        y[i] += x[i]; // HERE // MEND y[i] += x[i];
        """,
        "y",
        "element 0 of buffer y, which nothing has written",
    ),
    "threadgroup memory read first": Bug(
        "uninitialised",
        """
        threadgroup float total[2];
        if (i < 1) total[i] = 1; // MEND if (i < 2) total[i] = 1;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        y[i] = total[i % 2]; // HERE // MEND y[i] = total[i % 2];
        """,
        "total",
        "element 1 of threadgroup array total",
    ),
    "no barrier": Bug(
        "race",
        """
        threadgroup float row[64];
        row[i] = x[i];
        // MEND threadgroup_barrier(mem_flags::mem_threadgroup);
        y[i] = row[63 - i]; // HERE // MEND y[i] = row[63 - i];
        """,
        "row",
        "wrote at line 3, with no threadgroup_barrier(mem_flags::mem_threadgroup) between",
    ),
    "barrier that orders nothing": Bug(
        "race",
        """
        threadgroup float row[64];
        row[i] = x[i];
        threadgroup_barrier(mem_flags::mem_none); // MEND threadgroup_barrier(mem_flags::mem_threadgroup);
        y[i] = row[63 - i]; // HERE // MEND y[i] = row[63 - i];
        """,
        "row",
        "reads element 0 of threadgroup array row, which thread 0 wrote at line 3",
    ),
    "written over before all have read": Bug(
        "race",
        """
        threadgroup float row[64];
        row[i] = x[i];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        float other = row[63 - i];
        // MEND threadgroup_barrier(mem_flags::mem_threadgroup);
        row[i] = other + 1; // HERE // MEND row[i] = other + 1;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        y[i] = row[i];
        """,
        "row",
        "read at line 5",
    ),
    "race on device memory": Bug(
        "race",
        """
        y[i] = x[i];
        threadgroup_barrier(mem_flags::mem_threadgroup); // MEND threadgroup_barrier(mem_flags::mem_device);
        float other = y[63 - i]; // HERE // MEND float other = y[63 - i];
        threadgroup_barrier(mem_flags::mem_device);
        y[i] = other;
        """,
        "y",
        "with no threadgroup_barrier(mem_flags::mem_device) between",
    ),
    "race between threadgroups": Bug(
        "race-between-threadgroups",
        """
        if (i < 32) y[i + 32] = 0; // MEND
        y[i % 32] = x[i] + 1; // HERE // MEND y[i] = x[i] + 1;
        """,
        "y",
        "which another threadgroup wrote at line 3",
        group=32,
    ),
    "race inside a simdgroup": Bug(
        "race-in-simdgroup",
        """
        threadgroup float row[64];
        row[i] = x[i];
        // MEND simdgroup_barrier(mem_flags::mem_threadgroup);
        y[i] = row[i ^ 1]; // HERE // MEND y[i] = row[i ^ 1];
        """,
        "row",
        "with no simdgroup_barrier(mem_flags::mem_threadgroup) between",
    ),
    "simdgroup barrier of the other memory": Bug(
        "race-in-simdgroup",
        """
        threadgroup float row[64];
        row[i] = x[i];
        simdgroup_barrier(mem_flags::mem_device); // MEND simdgroup_barrier(mem_flags::mem_threadgroup);
        y[i] = row[i ^ 1]; // HERE // MEND y[i] = row[i ^ 1];
        """,
        "row",
    ),
    "race, with a fence elsewhere": Bug(
        "race-despite-fence",
        """
        if (i < 32) y[i + 32] = 0; // MEND
        if (i == 63) atomic_thread_fence(mem_flags::mem_device);
        y[i % 32] = x[i] + 1; // HERE // MEND y[i] = x[i] + 1;
        """,
        "y",
        "whether it orders the two is not known",
        grade="warning",
        group=32,
    ),
    "atomic counter used before it is set": Bug(
        "unordered-atomics",
        """
        threadgroup atomic_int count;
        if (i == 0) SET(&count, 0);
        // MEND threadgroup_barrier(mem_flags::mem_threadgroup);
        ADD(&count); // HERE // MEND ADD(&count);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        y[i] = GET(&count);
        """,
        "count",
        "thread 0 wrote at line 3, with no threadgroup_barrier(mem_flags::mem_threadgroup) between; both are atomic",
        grade="warning",
        header=ATOMICS,
    ),
    "atomic counter read before all have counted": Bug(
        "unordered-atomics",
        """
        threadgroup atomic_int count;
        if (i == 0) SET(&count, 0);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        ADD(&count);
        // MEND threadgroup_barrier(mem_flags::mem_threadgroup);
        y[i] = GET(&count); // HERE // MEND y[i] = GET(&count);
        """,
        "count",
        "reads element 0 of threadgroup array count, which other threads wrote at line 5",
        grade="warning",
        header=ATOMICS,
    ),
    "atomic counter read by the first thread": Bug(
        "unordered-atomics",
        """
        threadgroup atomic_int count;
        if (i == 63) SET(&count, 0);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        ADD(&count); // HERE // MEND ADD(&count);
        // MEND threadgroup_barrier(mem_flags::mem_threadgroup);
        if (i == 0) y[0] = GET(&count);
        else y[i] = x[i];
        """,
        "count",
        "which thread 0 read at line 7",
        grade="warning",
        header=ATOMICS,
    ),
    "atomic counter read as if it were none": Bug(
        "race",
        """
        threadgroup int count;
        if (i == 0) count = 0;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        ADD((threadgroup atomic_int*)&count);
        // MEND threadgroup_barrier(mem_flags::mem_threadgroup);
        y[i] = count; // HERE // MEND y[i] = count;
        """,
        "count",
        "which other threads wrote at line 5",
        header=ATOMICS,
    ),
    "atomic counter set as if it were none": Bug(
        "race",
        """
        threadgroup int count;
        if (i == 0) count = 0;
        // MEND threadgroup_barrier(mem_flags::mem_threadgroup);
        ADD((threadgroup atomic_int*)&count); // HERE // MEND ADD((threadgroup atomic_int*)&count);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        y[i] = count;
        """,
        "count",
        "thread 0 wrote at line 3",
        header=ATOMICS,
    ),
    "an input written": Bug(
        "input-written",
        """
        device float* mine = (device float*)x; // MEND thread float mine[64];
        mine[i] = 7; // HERE // MEND mine[i] = 7;
        y[i] = mine[i];
        """,
        "x",
        "thread (0, 0, 0) of threadgroup (0, 0, 0) writes element 0 of buffer x, which is an input.",
    ),
    "all write the same": Bug(
        "same-value-race",
        """
        threadgroup float scale;
        scale = 2; // HERE // MEND if (i == 0) scale = 2;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        y[i] = x[i] * scale;
        """,
        "scale",
        "both wrote the same value",
        grade="warning",
    ),
    "all write, and not the same": Bug(
        "race",
        """
        threadgroup float scale;
        scale = x[i / 32]; // HERE // MEND if (i == 0) scale = x[i];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        y[i] = x[i] * scale;
        """,
        "scale",
        "thread (32, 0, 0) of threadgroup (0, 0, 0) writes element 0",
    ),
    "two barriers": Bug(
        "divergent-barrier",
        """
        y[i] = x[i];
        if (i < 32) // MEND
          threadgroup_barrier(mem_flags::mem_none); // HERE // MEND threadgroup_barrier(mem_flags::mem_none);
        else // MEND
          threadgroup_barrier(mem_flags::mem_none); // MEND
        """,
        words="some at line 6",
    ),
    "two barriers on one line": Bug(
        "divergent-barrier",
        """
        #define WAIT threadgroup_barrier(mem_flags::mem_none)
        if (i < 32) { WAIT; y[i] = x[i]; } else { y[i] = x[i]; WAIT; } // HERE // MEND y[i] = x[i]; WAIT;
        """,
        words="wait here by different calls",
    ),
    "one barrier by two calls": Bug(
        "divergent-barrier",
        """
        if (i < 32) // MEND
          wait(mem_flags::mem_none); // MEND
        else // MEND
          wait(mem_flags::mem_none); // MEND
        y[i] = x[i]; // MEND wait(mem_flags::mem_none); y[i] = x[i];
        """,
        words="wait here by different calls",
        header=WAIT,
        part="header",
    ),
    "one barrier by two calls on a line": Bug(
        "divergent-barrier",
        """
        i < 32 ? wait(mem_flags::mem_none) : wait(mem_flags::mem_none); // MEND wait(mem_flags::mem_none);
        y[i] = x[i];
        """,
        words="wait here by different calls",
        header="__attribute__((noinline)) " + WAIT,
        part="header",
    ),
    "barrier after some left": Bug(
        "barrier-after-exit",
        """
        y[i] = x[i];
        if (i > 50) return; // MEND
        threadgroup_barrier(mem_flags::mem_none); // HERE // MEND threadgroup_barrier(mem_flags::mem_none);
        """,
        words="13 of 64 threads had left",
    ),
    "half a simdgroup sums": Bug(
        "partial-simd",
        """
        float s = 0;
        if (i % 32 < 16) // MEND
          s = simd_sum(x[i]); // HERE // MEND s = simd_sum(i % 32 < 16 ? x[i] : 0.0f);
        y[i] = s;
        """,
        words="Only lanes 0–15 of a simdgroup reach simd_sum; 16–31 are elsewhere",
        grade="warning",
    ),
    "a sum in each branch of one line": Bug(
        "partial-simd",
        """
        y[i] = i % 2 ? simd_sum(1.0f) : simd_sum(2.0f); // HERE // MEND y[i] = simd_sum(i % 2 ? 1.0f : 2.0f);
        """,
        words="Only lanes 1, 3, 5, 7,",
        grade="warning",
    ),
    "a sum by two calls": Bug(
        "partial-simd",
        """
        float s;
        if (i % 2) s = total(1.0f); // MEND s = total(i % 2 ? 1.0f : 2.0f);
        else s = total(2.0f); // MEND
        y[i] = s;
        """,
        words="Only lanes 0, 2, 4, 6,",
        grade="warning",
        header="inline float total(float v) { return simd_sum(v); } // HERE",
        part="header",
    ),
    "shuffle from nowhere": Bug(
        "inactive-lane",
        """
        y[i] = simd_shuffle(x[i], ushort(i % 32 + 1)); // HERE // MEND y[i] = simd_shuffle(x[i], ushort((i + 1) % 32));
        """,
        words="Lane 31 takes a value by simd_shuffle from lane 32",
    ),
    "vector at an odd place": Bug(
        "misaligned",
        """
        const device float* start = x + 1; // MEND const device float* start = x + 2;
        const device float2* pairs = (const device float2*)start;
        float2 pair = pairs[i % 8]; // HERE // MEND float2 pair = pairs[i % 8];
        y[i] = pair.x;
        """,
        "x",
        "reads 8 bytes at element 1 of buffer x",
    ),
    "integer division": Bug(
        "division-by-zero",
        """
        int n = int(x[i]); // MEND int n = int(x[i]) + 1;
        y[i] = 10 / n; // HERE // MEND y[i] = 10 / n;
        """,
        words="thread (0, 0, 0) of threadgroup (0, 0, 0) divides",
    ),
    "integer remainder": Bug(
        "division-by-zero",
        """
        uint n = uint(x[i]); // MEND uint n = uint(x[i]) + 1;
        y[i] = 10 % n; // HERE // MEND y[i] = 10 % n;
        """,
    ),
    "too much threadgroup memory": Bug(
        "threadgroup-memory",
        """
        threadgroup float all[9000]; // HERE // MEND threadgroup float all[8192];
        all[i] = x[i];
        y[i] = all[i];
        """,
        words="36000 bytes with all",
    ),
    "elements nobody writes": Bug(
        "unwritten-output",
        """
        if (i % 2 == 0) y[i] = x[i]; // MEND y[i] = x[i];
        """,
        "y",
        "32 of 64 elements of output y were never written, the first of them element 1",
        grade="warning",
    ),
    "endless loop": Bug(
        "time-limit",
        """
        y[i] = x[i];
        while (x[0] == 0) y[i] += 1; // HERE // MEND while (x[0] == 1) y[i] += 1;
        """,
        words="Still running after 0.5 s",
        time_limit=0.5,
    ),
    "endless loop over barriers": Bug(
        "time-limit",
        """
        y[i] = x[i];
        while (x[0] == 0) threadgroup_barrier(mem_flags::mem_none); // HERE // MEND
        """,
        words="Still running after 0.5 s",
        time_limit=0.5,
    ),
    "too much private memory": Bug(
        "stack-overflow",
        """
        float big[100000]; // MEND float big[100];
        for (uint k = 0; k < sizeof(big) / 4; k++) big[k] = x[i] + k;
        y[i] = big[i * 7 % 100];
        """,
        words="more private memory than the 256 KiB",
    ),
    "pointer from nowhere": Bug(
        "crash",
        """
        y[i] = x[i];
        device float* p = y; // MEND device float* p = y + i;
        if (x[0] == 0) p = (device float*)64; // MEND
        *p = 1; // HERE // MEND *p = 1;
        """,
        words="address 0x40, which belongs to no buffer",
    ),
    "pointer without an address space": Bug(
        "address-space",
        """
        float mine[2] = {x[i], 1};
        float* p = mine; // HERE // MEND thread float* p = mine;
        y[i] = p[0];
        """,
        words="wants an address space (device, constant, threadgroup or thread) on 'float * p'",
        grade="warning",
    ),
}
