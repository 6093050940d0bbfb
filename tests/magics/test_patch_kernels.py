"""`%patch_kernels` in a real shell, on the pocket model."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
from mlxnb.errors import MlxnbError
from mlxnb.kernels import active, configure_optimizer, unpatch_mlx_lm

pytest.importorskip("mlx_lm")


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    yield
    mlxnb.engine().call(unpatch_mlx_lm)
    configure_optimizer()


@pytest.fixture
def run(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]):
    def run(cell: str) -> str:
        shell.run_cell(cell).raise_error()
        return capsys.readouterr().out

    return run


def test_on_counts_what_runs_and_off_brings_stock_back(run, shell):
    assert "%patch_kernels on" in run("%patch_kernels")
    assert "nothing ran yet" in run("%patch_kernels on --min-len 1")
    run("answer = %generate --backend mlx --kv-bits 8 --max-tokens 8 --quiet What does itertools.chain do?")
    provenance = shell.user_ns["answer"].provenance
    layers = 4
    calls = sum(calls for _, calls in provenance.attention_calls)
    assert calls >= layers * len(shell.user_ns["answer"].tokens)
    assert calls % layers == 0
    assert "%" in provenance.attention
    assert any("measured on" in note for note in provenance.notes)
    status = run("%patch_kernels status")
    assert "qwen3.Attention" in status
    assert "GQA-2:1" in status
    assert "mlx-lm's own attention is back" in run("%patch_kernels off")
    assert "not patched" in run("%patch_kernels off")
    run("again = %generate --backend mlx --kv-bits 8 --max-tokens 8 --quiet What does itertools.chain do?")
    assert shell.user_ns["again"].provenance.attention == "mlx-lm stock"


def test_a_threshold_is_set_with_on_and_gone_with_off(run):
    run("%patch_kernels on --min-len 5000")
    run("%generate --backend mlx --max-tokens 4 --quiet hi")
    assert "below min_len 5000" in run("%patch_kernels")
    run("%patch_kernels off")
    run("%patch_kernels on")
    run("%generate --backend mlx --max-tokens 4 --quiet hi")
    assert "below min_len 128" in run("%patch_kernels")


def test_tune_measures_and_explain_repeats_it(run):
    tuned = run("%patch_kernels tune --kv-bits 4 --lengths 64")
    assert "stock (" in tuned  # a ratio with its interval, whichever way it went
    explained = run("%patch_kernels explain --kv-bits 4 --lengths 64 --into found")
    assert "4 bit, group 64" in explained
    assert "a Metal kernel, and MLX computes on" in explained
    assert "not measured" not in explained


def test_bench_saves_every_run_and_leaves_no_patch(run, shell, tmp_path: Path):
    file = tmp_path / "runs.json"
    shown = run(f"%patch_kernels bench --kv-bits 8 --lengths 32 --save {file} --into bench")
    assert "no Metal here" in shown
    alike = shell.user_ns["bench"].rows[0].difference is None
    assert ("identical" if alike else "differ from token") in shown
    saved = json.loads(file.read_text())
    assert saved["kv_bits"] == 8
    assert {run["length"] for run in saved["runs"]} == {32}
    assert all(len(run[arm]["tokens"]) == 32 for run in saved["runs"] for arm in ("stock", "patched"))
    assert active() is None


def test_bench_plots_both_arms(run, shell, tmp_path: Path):
    from mlxnb.render.kernel_plot import bench_plot

    run("%patch_kernels bench --lengths 16,32 --into bench")
    plot = bench_plot(shell.user_ns["bench"])
    assert plot.png().startswith(b"\x89PNG")
    texts = [text.get_text() for axis in plot.figure.axes for text in axis.texts]
    assert sorted(texts) == ["patched", "patched", "stock", "stock"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bentch", "Did you mean bench?"),
        ("bench --kv-bits 5", "--kv-bits is 5. It takes 4 or 8."),
        ("bench --lengths 256,x", "--lengths is 'x'. It takes a whole number."),
        ("bench --lengths 3", "--lengths is '3'."),
        ("on --min-len 0", "min_len is 0."),
        ("on --minlen 3", "Did you mean --min-len?"),
        ("on now", "'now' is one word too many."),
        ("tune --save x", "--save says nothing to tune. It belongs to bench."),
        ("status --model nowhere", "--model says nothing to status."),
        ("tune --into 3x", "'3x' is no name for a variable."),
        ("bench --lengths 100000000", "Nothing was compared: 100000000 tokens might need"),
        ("tune --model nowhere", "nowhere"),
        ("bench --lengths 16 --save /dev/null/x.json", "cannot be written"),
    ],
)
def test_bad_input_is_one_line(shell: InteractiveShell, line: str, message: str):
    with pytest.raises(MlxnbError) as caught:
        shell.run_cell(f"%patch_kernels {line}").raise_error()
    assert message in str(caught.value)


def test_what_tune_finds_holds_at_once_while_patched(run, shell):
    run("%patch_kernels on")
    run("%generate --backend mlx --kv-bits 8 --max-tokens 4 --quiet --cache off What does itertools.chain do?")
    assert "below min_len" in run("%patch_kernels")
    tuned = run("%patch_kernels tune --kv-bits 8 --lengths 16,32")
    run("%generate --backend mlx --kv-bits 8 --max-tokens 4 --quiet --cache off What does itertools.chain do?")
    status = run("%patch_kernels")
    assert "below min_len" not in status
    in_use, found = (set(re.findall(r"● (\w+)", table)) for table in (status, tuned))
    assert in_use
    assert in_use <= found  # the lengths of the tuning have more shapes than this prompt


def _interrupt() -> None:
    """What Jupyter's stop button does: SIGINT, to the thread that waits.

    Python does not listen to it where it was started in the background of a shell, so the tests see to that.
    """
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system cannot interrupt a thread")
def test_an_interrupt_while_the_engine_is_busy_leaves_nothing_patched():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    engine, gate = mlxnb.engine(), threading.Event()
    engine.later(gate.wait)
    stopped = threading.Timer(0.5, _interrupt)
    stopped.start()
    with pytest.raises(KeyboardInterrupt), mlxnb.patched_kernels():
        pytest.fail("the engine was busy")
    gate.set()
    engine.call(lambda: None)
    assert active() is None


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system cannot interrupt a thread")
def test_an_interrupted_bench_gives_the_engine_back_at_once(shell):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stopped = threading.Timer(2.0, _interrupt)
    stopped.start()
    ran = shell.run_cell("%patch_kernels bench --kv-bits 8 --lengths 900")
    assert isinstance(ran.error_in_exec, KeyboardInterrupt)
    mlxnb.engine().call(lambda: None)  # does not wait for the runs that were left
    assert active() is None


def test_patched_kernels_is_a_context(run):
    with mlxnb.patched_kernels() as dispatcher:
        assert active() is dispatcher
        mlxnb.engine().generate("hi", backend="mlx", max_tokens=2)
        assert dispatcher.counts
    assert active() is None


def test_help_is_the_docstring(run, shell):
    assert run("%patch_kernels --help").strip() == shell.find_magic("patch_kernels").__doc__.strip()
