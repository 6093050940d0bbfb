"""`%%metal_kernel` in a real shell: the emulator's numbers, findings and words, counted in lines of the cell."""

from __future__ import annotations

import pytest
from IPython.core.interactiveshell import InteractiveShell

from mlxnb.errors import KernelCompileError, KernelFaultError, MlxnbError
from mlxnb.kernels.emulator import compiler

mx = pytest.importorskip("mlx.core")
pytestmark = [
    pytest.mark.skipif(not compiler(), reason="no C++ compiler"),
    pytest.mark.skipif(mx.metal.is_available(), reason="native here; the emulator's own tests cover it"),
]

ADD = "uint i = thread_position_in_grid.x;\nc[i] = a[i] + 2 * b[i];"


@pytest.fixture
def run(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]):
    shell.user_ns.update(
        a=mx.arange(100, dtype=mx.float32), b=mx.ones(100), n=100, small=mx.ones((4, 8), mx.float16), half=mx.ones(4)
    )

    def run(line: str, body: str) -> str:
        shell.run_cell(f"%%metal_kernel {line}\n{body}").raise_error()
        return capsys.readouterr().out

    return run


def test_outputs_become_variables_and_bytes_are_shown(run, shell):
    shown = run("--in a,b --out c", ADD)
    assert mx.array_equal(shell.user_ns["c"], shell.user_ns["a"] + 2)
    assert "nothing found by the sanitizer" in shown
    assert "100 threads in 1 threadgroup" in shown


def test_shape_dtype_template_and_header(run, shell):
    shell.user_ns["code"] = "template <typename T> T twice(T x) { return x + x; }"
    line = "--in small --out d:float32[{{n}}] --grid 32 --template T=float32 --header code --init 7 --into kept"
    run(line, "uint i = thread_position_in_grid.x;\nd[i] = twice(T(small[i]));")
    assert shell.user_ns["d"].shape == (100,)
    assert shell.user_ns["d"].tolist() == [2.0] * 32 + [7.0] * 68
    assert shell.user_ns["kept"].report.threads == 32


def test_a_wild_read_is_a_finding_with_the_cells_line(run, shell, capsys):
    with pytest.raises(KernelFaultError, match=r"^Line 3 of the cell: .*reads element 100 of buffer a"):
        run("--in a,b --out c", ADD.replace("a[i]", "a[i + 1]"))
    shown = capsys.readouterr().out
    assert "out-of-bounds" in shown
    assert "c" not in shell.user_ns


def test_a_compile_error_is_told_in_the_cells_lines(run):
    with pytest.raises(KernelCompileError, match=r"Line 3: 'bb' was not declared") as caught:
        run("--in a,b --out c", ADD.replace("b[i]", "bb[i]"))
    assert caught.value.line == 3


def test_a_kernel_without_an_end_is_stopped(run):
    with pytest.raises(KernelFaultError, match="Still running after 1 s"):
        run("--in a --out s[1] --grid 1 --init 0 --limit 1", "while (a[0] == 0) { s[0] += 1; }")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--in nope --out c", "There is no variable 'nope'."),
        ("--in a", "There is no --out."),
        ("--in a --out 'c d'", "--out is 'c d'."),
        ("--in a --out c:float33", "c has the dtype 'float33'."),
        ("--out c", "The shape of c is not known."),
        ("--in a --out c --grid 0", "--grid is '0'."),
        ("--in a --out c --grid 1,2,3,4", "--grid is '1,2,3,4'."),
        ("--in a --out c --template T=x", "--template has 'T=x'."),
        ("--in a --out c --header a", "--header is 'a'."),
        ("--in a --out c --init x", "--init is 'x'."),
        ("--in a --out c --limit 0", "--limit is '0'."),
        ("--in run_cell --out c", "There is no variable"),
        ("--in half --out c", "'half' cannot be the name of an array: it is a word of the language."),
        ("--in a --out a", "'a'"),
        ("--in a --out c:int32 --init nan", "nan"),
        ("--grib 3", "Unknown option --grib. Did you mean --grid?"),
    ],
)
def test_bad_input_is_one_line(run, line, message):
    with pytest.raises(MlxnbError) as caught:
        run(line, ADD)
    assert message in str(caught.value)
