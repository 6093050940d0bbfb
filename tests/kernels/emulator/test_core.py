"""A kernel's arguments, grid and bytes: what MLX does with them, and what the report says of them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb.errors import KernelError
from mlxnb.kernels.emulator import Kernel, Typed
from mlxnb.kernels.emulator.outputs import new_output
from tests.kernels.emulator.run import Array, run, typed

ONES = np.ones(8, np.float32)


@settings(max_examples=10)
@given(
    grid=st.tuples(*[st.integers(1, 7)] * 3),
    group=st.tuples(*[st.integers(1, 4)] * 3),
)
def test_every_thread_of_the_grid_runs_once(grid: tuple[int, int, int], group: tuple[int, int, int]) -> None:
    source = """
    uint3 p = thread_position_in_grid, n = threads_per_grid;
    uint k = (p.z * n.y + p.y) * n.x + p.x;
    uint3 t = threadgroup_position_in_grid * dispatch_threads_per_threadgroup + thread_position_in_threadgroup;
    y[k] = all(t == p) ? k + thread_index_in_simdgroup * 0 : ~0u;
    """
    total = int(np.prod(grid))
    got, report = run(source, {}, (total,), "uint32", grid, group)
    np.testing.assert_array_equal(got, np.arange(total))
    groups = [-(-n // min(g, n)) for n, g in zip(grid, group, strict=True)]
    assert (report.threads, report.threadgroups) == (total, int(np.prod(groups)))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"])
def test_integers_of_every_width(dtype: str) -> None:
    x = np.arange(8).astype(dtype)
    np.testing.assert_array_equal(run("y[i] = x[7 - i];", {"x": x}, (8,), dtype)[0], x[::-1])


def test_scalars_small_and_large_arrays_are_passed_as_mlx_passes_them() -> None:
    kernel = Kernel("k", ("a", "b", "c"), ("y",), "y[0] = a + b[0] + c[0];")
    inputs = [typed(np.array(2.0, np.float32)), typed(np.ones(7, np.float32)), typed(ONES)]
    text = kernel.text(inputs, ["float16"], [("typename", "T", "half"), ("int", "N", "4")])
    assert text.function == "custom_kernel_k_half_4_floats_floatc_float_float16_t"
    assert "  const constant float& a [[buffer(0)]],\n  const constant float* b [[buffer(1)]],\n" in text.metal()
    assert "  const device float* c [[buffer(2)]],\n  device float16_t* y [[buffer(3)]]) {\n" in text.metal()
    assert text.metal().startswith("template <typename T, int N>\n[[kernel]] void custom_kernel_k_half_4")
    outputs, report = kernel.run(inputs, [(1,)], ["float32"], (1, 1, 1), (1, 1, 1))
    assert outputs[0] == 4
    assert report.ok


@settings(max_examples=15)
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=4), seed=st.integers(0, 99), dense=st.booleans())
def test_strided_inputs(shape: list[int], seed: int, dense: bool) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal(shape).astype(np.float32).transpose(random.permutation(len(shape)))
    x = np.broadcast_to(x, (2, *x.shape)) if seed % 2 else x[..., ::2]
    source = "uint i = thread_position_in_grid.x; y[i] = x[elem_to_loc(i, x_shape, x_strides, x_ndim)];"
    source = source.replace("elem_to_loc(i, x_shape, x_strides, x_ndim)", "at(i, x_shape, x_strides, x_ndim)")
    header = """
    inline int64_t at(uint i, const constant int* shape, const constant int64_t* strides, int ndim) {
        int64_t loc = 0;
        for (int d = ndim - 1; d >= 0; d--) { loc += (i % shape[d]) * strides[d]; i /= shape[d]; }
        return loc;
    }
    """
    kernel = Kernel("k", ("x",), ("y",), source, header, ensure_row_contiguous=dense)
    outputs, report = kernel.run([typed(x)], [x.shape], ["float32"], (x.size, 1, 1), (32, 1, 1))
    np.testing.assert_array_equal(outputs[0], x)
    assert report.findings == ()
    assert report.buffers["x"].read_unique <= x.nbytes


def test_a_strided_view_may_not_be_read_beyond_its_last_element() -> None:
    x = np.arange(16, dtype=np.float32)[::2]
    kernel = Kernel("k", ("x",), ("y",), "y[0] = x[15];", ensure_row_contiguous=False)
    report = kernel.run([typed(x)], [(1,)], ["float32"], (1, 1, 1), (1, 1, 1))[1]
    assert "element 15 of buffer x; it has 15" in report.findings[0].message


def test_init_value_and_atomic_outputs() -> None:
    source = "atomic_fetch_add_explicit(&y[x[thread_position_in_grid.x]], 1, memory_order_relaxed);"
    kernel = Kernel("histogram", ("x",), ("y",), source, atomic_outputs=True)
    x = np.random.default_rng(0).integers(0, 5, 1000).astype(np.int32)
    outputs, report = kernel.run([typed(x)], [(5,)], ["int32"], (1000, 1, 1), (128, 1, 1), init_value=10)
    np.testing.assert_array_equal(outputs[0], np.bincount(x) + 10)
    assert report.findings == ()


@pytest.mark.parametrize("value", [0, -1, 3.7, -3.7, 1e300, 2**31 - 1, 2**40, np.nan, np.inf])
@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int32", "uint32", "int64", "float16", "float32", "bfloat16", "complex64"]
)
def test_init_values_are_cast_as_mlx_casts_them(dtype: str, value: float) -> None:
    """Float types against MLX; integers too where the value is one that they hold, and refused where it is none."""
    mx = pytest.importorskip("mlx.core")
    kind = getattr(mx, dtype if dtype != "bool" else "bool_")
    limits = np.iinfo(dtype) if "int" in dtype else None
    if limits and not limits.min <= value <= limits.max:
        with pytest.raises(KernelError, match=f"init_value is .*, and an output is {dtype}"):
            new_output((2,), dtype, value)
        return
    with np.errstate(over="ignore"):
        expected = mx.array(float(np.float32(value)), mx.float32).astype(kind)
    if dtype == "bfloat16":
        expected = expected.view(mx.uint16)
    if dtype == "int32" and value == 2**31 - 1:  # float32 has no such number; the nearest one is beyond int32
        expected = mx.array(2**31 - 1)
    np.testing.assert_array_equal(new_output((2,), dtype, value), np.array(expected))


@pytest.mark.parametrize("limit", [1e-9, 1e-4])
def test_short_time_limits(limit: float) -> None:
    kernel = Kernel("k", ("x",), ("y",), "y[0] = 0; while (x[0] == 1) y[0] += 1;")
    report = kernel.run([typed(ONES)], [(1,)], ["float32"], (1, 1, 1), (1, 1, 1), time_limit=limit)[1]
    assert [finding.kind for finding in report.findings] == ["time-limit"]
    assert f"after {max(limit, 1e-6):g} s" in report.findings[0].message


@pytest.mark.parametrize("limit", [1, 1e10, 1e300, float("inf")])
def test_long_time_limits(limit: float) -> None:
    assert (run("y[i] = x[i];", {"x": ONES}, (8,), time_limit=limit)[0] == 1).all()


def test_a_loop_round_compare_exchange() -> None:
    source = """
    #define RELAXED memory_order_relaxed
    threadgroup atomic_uint sum;
    if (i == 0) atomic_store_explicit(&sum, as_type<uint>(0.0f), memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint expected = atomic_load_explicit(&sum, memory_order_relaxed), desired;
    do desired = as_type<uint>(as_type<float>(expected) + x[i]);
    while (!atomic_compare_exchange_weak_explicit(&sum, &expected, desired, RELAXED, RELAXED));
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[i] = as_type<float>(atomic_load_explicit(&sum, memory_order_relaxed));
    """
    x = np.arange(64, dtype=np.float32)
    assert (run(source, {"x": x}, (64,))[0] == x.sum()).all()


def test_atomics_of_several_threadgroups_on_one_place_are_no_fault() -> None:
    source = """
    atomic_fetch_add_explicit(&y[0], 1, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_device);
    if (thread_position_in_threadgroup.x == 0)
      atomic_store_explicit(&y[1], atomic_load_explicit(&y[0], memory_order_relaxed), memory_order_relaxed);
    """
    kernel = Kernel("k", (), ("y",), source, atomic_outputs=True)
    outputs, report = kernel.run([], [(2,)], ["int32"], (128, 1, 1), (32, 1, 1), init_value=0)
    assert (outputs[0] == 128).all()
    assert report.findings == ()


@pytest.mark.parametrize(
    ("operation", "expected"), [("max", 999), ("min", -3), ("xor", 0), ("sub", -499500), ("exchange", 0)]
)
def test_atomics_on_threadgroup_memory(operation: str, expected: int) -> None:
    name = "exchange" if operation == "exchange" else f"fetch_{operation}"
    source = f"""
    threadgroup atomic_int cell;
    int v = thread_position_in_grid.x;
    if (v == 0) atomic_store_explicit(&cell, {-3 if operation == "min" else 0}, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    atomic_{name}_explicit(&cell, {"v * 0" if operation == "exchange" else "v"}, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (v == 0) y[0] = atomic_load_explicit(&cell, memory_order_relaxed);
    """
    assert run(source, {}, (1,), "int32", threads=1000, group=1000)[0][0] == expected


def test_bytes_of_two_ways_to_read_the_same() -> None:
    shared = """
    threadgroup float row[64];
    uint t = thread_position_in_threadgroup.x;
    row[t] = x[t];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float s = 0;
    for (int k = 0; k < 64; k++) s += row[k];
    y[i] = s;
    """
    direct = "float s = 0; for (int k = 0; k < 64; k++) s += x[k]; y[i] = s;"
    x = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    for source, read in ((shared, 4 * 64), (direct, 256 * 64)):
        got, report = run(source, {"x": x}, (256,), group=64)
        traffic = report.buffers["x"]
        np.testing.assert_allclose(got, x.sum(), rtol=1e-5)
        assert (traffic.read, traffic.read_unique, traffic.read_unique_per_threadgroup) == (read * 4, 256, 4 * 256)
        assert (report.buffers["y"].written, report.buffers["y"].written_unique) == (1024, 1024)


def test_many_threadgroups_are_counted_one_by_one() -> None:
    got, report = run("y[i] = x[0];", {"x": ONES}, (200,), group=1)
    assert report.buffers["x"].read_unique_per_threadgroup == 200 * 4
    assert report.buffers["x"].read_unique == 4
    assert (got == 1).all()


def test_unchecked_gives_the_same_and_counts_nothing() -> None:
    got, report = run("y[i] = exp(x[i]);", {"x": ONES}, (8,), checks=False)
    np.testing.assert_array_equal(got, run("y[i] = exp(x[i]);", {"x": ONES}, (8,))[0])
    assert report.buffers["x"].read == 0


def test_wrong_numbers_of_arrays() -> None:
    kernel = Kernel("k", ("x",), ("y",), "y[0] = x[0];")
    with pytest.raises(ValueError, match="Expected `inputs` to have size 1 but got size 0"):
        kernel.run([], [(1,)], ["float32"], (1, 1, 1), (1, 1, 1))
    with pytest.raises(ValueError, match="Expected `output_shapes` to have size 1 but got size 2"):
        kernel.run([typed(ONES)], [(1,), (1,)], ["float32"], (1, 1, 1), (1, 1, 1))
    with pytest.raises(ValueError, match="Expected `output_dtypes` to have size 1 but got size 0"):
        kernel.run([typed(ONES)], [(1,)], [], (1, 1, 1), (1, 1, 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grid": (-1, 1, 1)}, "The grid is"),
        ({"grid": (1, 1)}, "The grid is"),
        ({"threadgroup": (0, 1, 1)}, "The threadgroup is"),
        ({"output_dtypes": ["float64"]}, "Metal has no float64"),
        ({"output_shapes": [(-1,)]}, "An output has the shape"),
        ({"output_shapes": [(1 << 60,)]}, "does not fit into memory"),
        ({"time_limit": 0}, "The time limit is 0"),
        ({"time_limit": float("nan")}, "The time limit is nan"),
        ({"init_value": "zero"}, "init_value is 'zero'"),
    ],
)
def test_what_metal_does_not_take(change: dict[str, object], words: str) -> None:
    good = {"output_shapes": [(1,)], "output_dtypes": ["float32"], "grid": (1, 1, 1), "threadgroup": (1, 1, 1)}
    with pytest.raises(KernelError, match=words):
        Kernel("k", ("x",), ("y",), "y[0] = x[0];").run([typed(ONES)], **{**good, **change})  # type: ignore[arg-type]


def test_too_many_threads_and_an_empty_grid() -> None:
    kernel = Kernel("k", ("x",), ("y",), "y[0] = x[0];")
    report = kernel.run([typed(ONES)], [(1,)], ["float32"], (2048, 1, 1), (2048, 1, 1))[1]
    assert [finding.kind for finding in report.findings] == ["too-many-threads"]
    assert not report.ok
    outputs, report = kernel.run([typed(ONES)], [(1,)], ["float32"], (0, 1, 1), (1, 1, 1))
    assert (report.threads, [finding.kind for finding in report.findings]) == (0, ["unwritten-output"])
    assert np.isnan(outputs[0]).all()


def test_empty_arrays() -> None:
    empty = np.zeros((0, 3), np.float32)
    got, _ = run("y[i] = x_shape[0];", {"x": empty}, (8,))
    assert (got == 0).all()
    _, report = run("y[i] = x[i];", {"x": empty}, (8,), clean=False)
    assert "it is empty" in report.findings[0].message


def test_launches_from_several_threads_at_once() -> None:
    results: dict[int, Array] = {}

    def work(n: int) -> None:
        results[n] = run("y[i] = x[i] * 2;", {"x": np.full(8, n, np.float32)}, (8,))[0]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: float(result[0]) for n, result in results.items()} == {n: 2.0 * n for n in range(6)}


def test_without_mlx_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlxnb.kernels.emulator import build

    monkeypatch.setattr(build, "mlx_headers", lambda: None)
    got, _ = run("y[i] = bfloat16_t(float16_t(x[i]) + 1.0h);", {"x": ONES}, (8,), "bfloat16")
    assert (got == 0x4000).all()


def test_bfloat16_inputs_are_bits() -> None:
    x = Typed(np.array([0x3F80, 0x4040], np.uint16), "bfloat16")
    np.testing.assert_array_equal(run("y[i] = x[i] + x[i];", {"x": x}, (2,))[0], [2, 6])


def test_complex_numbers_and_structures_are_seen() -> None:
    z = (np.arange(8) + 1j).astype(np.complex64)
    got, report = run("y[i] = x[i] * x[7 - i];", {"x": z}, (8,), "complex64")
    np.testing.assert_allclose(got, z * z[::-1])
    assert report.buffers["x"].read == 128
    _, report = run("y[i] = x[i + 1];", {"x": z}, (8,), "complex64", clean=False)
    assert "reads element 8 of buffer x" in report.findings[0].message


def test_blocks_of_a_quantised_format() -> None:
    header = "struct Block { half scale; uchar q[6]; };"
    source = "Block b = ((const device Block*)x)[i]; y[i] = float(b.scale) * b.q[5];"
    blocks = np.zeros(8, [("scale", np.float16), ("q", np.uint8, 6)])
    blocks["scale"], blocks["q"][:, 5] = 0.5, np.arange(8)
    got, report = run(source, {"x": blocks.view(np.uint8)}, (8,), header=header)
    np.testing.assert_array_equal(got, np.arange(8) / 2)
    assert report.buffers["x"].read <= 64
    _, report = run(source.replace("[i]", "[i + 1]", 1), {"x": blocks.view(np.uint8)}, (8,), header=header, clean=False)
    assert [(finding.kind, finding.buffer) for finding in report.findings] == [("out-of-bounds", "x")]
