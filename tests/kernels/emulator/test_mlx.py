"""The call of mx.fast.metal_kernel with MLX arrays, and in its place for other people's code."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mlxnb.errors import KernelFaultError
from mlxnb.kernels.emulator import emulated, metal_kernel

mx = pytest.importorskip("mlx.core")

SOURCE = "uint i = thread_position_in_grid.x; y[i] = T(x[i] * N + (B ? 1 : 0));"


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16, mx.int32, mx.uint8, mx.int64])
def test_mlx_arrays_in_and_out(dtype: object) -> None:
    kernel = metal_kernel("scale", ["x"], ["y"], SOURCE)
    x = mx.arange(10).astype(dtype)
    template = [("T", dtype), ("N", 3), ("B", True)]
    call = dict(
        inputs=[x],
        template=template,
        grid=(10, 1, 1),
        threadgroup=(4, 1, 1),
        output_shapes=[(2, 5)],
        output_dtypes=[dtype],
    )
    (y,) = kernel(**call)
    assert (y.dtype, y.shape) == (dtype, (2, 5))
    assert mx.array_equal(y.reshape(-1).astype(mx.float32), mx.arange(10) * 3 + 1)
    assert kernel.report is not None
    assert kernel.report.buffers["x"].read == 10 * x.itemsize


def test_a_fault_is_raised_with_its_report() -> None:
    kernel = metal_kernel("wild", ["x"], ["y"], "y[thread_position_in_grid.x + 1] = x[0];")
    call = dict(
        inputs=[mx.ones(4)], grid=(4, 1, 1), threadgroup=(4, 1, 1), output_shapes=[(4,)], output_dtypes=[mx.float32]
    )
    with pytest.raises(KernelFaultError, match="writes element 4 of buffer y") as caught:
        kernel(**call)
    assert caught.value.report is kernel.report
    outputs, report = kernel.run(**call)
    assert not report.ok
    assert outputs[0].shape == (4,)


def test_template_arguments_of_another_type() -> None:
    kernel = metal_kernel("k", ["x"], ["y"], "y[0] = x[0];")
    with pytest.raises(ValueError, match=r"Must be `mlx.core.Dtype`, `int` or `bool`"):
        kernel(
            inputs=[1],
            template=[("T", 1.5)],
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
            output_shapes=[(1,)],
            output_dtypes=[mx.int32],
        )


def test_names() -> None:
    with pytest.raises(ValueError, match="at least one output"):
        metal_kernel("k", ["x"], [], "")
    with pytest.raises(ValueError, match="cannot be the name"):
        metal_kernel("k", ["x y"], ["z"], "")


def test_verbose_prints_what_mlx_would_compile(capsys: pytest.CaptureFixture[str]) -> None:
    kernel = metal_kernel("k", ["x"], ["y"], "y[0] = T(x[0]);")
    kernel(
        inputs=[mx.array([1.0])],
        template=[("T", mx.float16)],
        grid=(1, 1, 1),
        threadgroup=(1, 1, 1),
        output_shapes=[(1,)],
        output_dtypes=[mx.float16],
        verbose=True,
    )
    printed = capsys.readouterr().out
    assert "Generated source code for `k`:" in printed
    assert 'template [[host_name("custom_kernel_k_float16_t_floatc_float16_t")]] [[kernel]] decltype(' in printed


def test_strides_of_an_mlx_view() -> None:
    source = "uint i = thread_position_in_grid.x; y[i] = x[elem_to_loc(i, x_shape, x_strides, x_ndim)];"
    kernel = metal_kernel("k", ["x"], ["y"], source, ensure_row_contiguous=False)
    x = mx.arange(24).reshape(2, 3, 4).transpose(2, 0, 1)[::2]
    (y,) = kernel(
        inputs=[x], grid=(x.size, 1, 1), threadgroup=(8, 1, 1), output_shapes=[x.shape], output_dtypes=[x.dtype]
    )
    assert mx.array_equal(x, y)


def test_emulated_restores_what_was_there() -> None:
    before = mx.fast.metal_kernel, mx.metal.is_available
    with emulated():
        assert mx.metal.is_available()
        assert mx.fast.metal_kernel is metal_kernel
        with pytest.raises(ZeroDivisionError), emulated():
            raise ZeroDivisionError
        assert mx.fast.metal_kernel is metal_kernel
    assert (mx.fast.metal_kernel, mx.metal.is_available) == before


def test_importing_the_emulator_does_not_import_mlx() -> None:
    code = "import sys, mlxnb.kernels.emulator; assert not {'mlx', 'mlx.core', 'mlx_lm'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_numbers_are_inputs() -> None:
    kernel = metal_kernel("k", ["a", "b"], ["y"], "y[0] = a + b;")
    (y,) = kernel(
        inputs=[2.5, mx.array(1, mx.int32)],
        grid=(1, 1, 1),
        threadgroup=(1, 1, 1),
        output_shapes=[(1,)],
        output_dtypes=[mx.float32],
    )
    np.testing.assert_array_equal(np.array(y), [3.5])
