"""`%mlxnb convert` in a real shell over the real engine, and `mlxnb convert` as a person runs it."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
from mlxnb import cli
from mlxnb.errors import MlxnbError
from mlxnb.runtime import Engine

pytest.importorskip("torch")
REAL = mlxnb.engine


@pytest.fixture(autouse=True)
def own_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This module's engine, in a folder of the test's own."""
    monkeypatch.setattr(mlxnb, "engine", lambda: engine)
    monkeypatch.delenv("LOCAL_MODELS_DIR", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("sample.txt").write_text("What does itertools.chain do? It joins several iterables into one.\n")


TABLE = re.compile(
    r"\./pocket-4bit · MLX, 4-bit, group 64 · written in .* · checked on \d+ tokens of 1 text, torch cpu \w+.*\n"
    r" +pocket +pocket-4bit +change\n─+\n"
    r"weights \(MB\) +7\.6\d? +2\.1\d? +× 0\.28\n"
    r"perplexity +[\d.\u202f]+ +[\d.\u202f]+ +[+−].* %\n"
    r"KL divergence, mean \(nats a token\) +– +[\d.e-]+\n"
    r"same likeliest token \(%\) +– +[\d.]+"
)


def test_the_table_shows_what_it_cost(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_cell("%mlxnb convert pocket --quantize 4 --text sample.txt --backend torch").raise_error()
    assert TABLE.search(capsys.readouterr().out)
    shell.run_cell("%mlxnb convert pocket it --mixed mixed_3_6 --group-size 32 --no-check").raise_error()
    said = capsys.readouterr().out
    assert "MLX, mixed_3_6, group 32" in said
    assert "not checked: it was left out, as asked" in said
    assert sorted(path.name for path in Path().iterdir()) == ["it", "pocket-4bit", "sample.txt"]


def test_the_command_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["convert", "pocket", "--quantize", "4", "--text", "sample.txt", "--backend", "torch"]) == 0
    assert TABLE.search(capsys.readouterr().out)
    assert cli.main(["convert", "pocket", "--quantize", "4"]) == 1
    assert "mlxnb: Cannot save to pocket-4bit: it already exists. Delete it" in capsys.readouterr().err
    assert cli.main(["convert", "pocket", "--quantize", "4", "--force", "--no-check"]) == 0


def test_the_report_shows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlxnb, "engine", REAL)  # which ties a report to its picture
    report = mlxnb.convert("pocket", quantize=8, check=False)
    bundle = report._repr_mimebundle_()
    assert "./pocket-8bit" in bundle["text/plain"]
    assert "not checked" in bundle["text/plain"]
    assert bundle["text/html"].count("<table>") == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("convert", "%mlxnb convert needs a model's name."),
        ("convert pocket a b", "'b' is one word too many."),
        ("convert pocket --quantize seven", "--quantize is 'seven'. It takes 2, 3, 4, 5, 6, 8."),
        ("convert pocket --quantize 7", "quantize (to mlx) is 7. It takes 2, 3, 4, 5, 6, 8."),
        ("convert pocket --quantize 4 --group-size 50", "group_size is 50. It takes 32, 64, 128."),
        ("convert pocket --mixed 4_6", "mixed is '4_6'. It takes mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6."),
        ("convert pocket --to gml", "to is 'gml'. It takes mlx, gguf, onnx."),
        ("convert pocket --dtype int4", "dtype is 'int4'. It takes float16, bfloat16, float32."),
        ("convert pocket --text nowhere", "The text nowhere cannot be read: No such file or directory."),
        ("convert pocket sample.txt --force", "sample.txt is there, and is no model's folder or file"),
        ("convert pokcet", "No model goes by 'pokcet'."),
        ("convert pocket --forse", "Unknown option --forse. Did you mean --force?"),
        ("load pocket --to gguf", "--to says nothing to load. It belongs to convert."),
        ("status --no-check", "--no-check says nothing to status. It belongs to convert."),
    ],
)
def test_a_mistake_is_one_line(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    ran = shell.run_cell(f"%mlxnb {line}")
    assert isinstance(ran.error_in_exec, MlxnbError)
    shown = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).strip()
    assert said in shown
    assert len(shown.splitlines()) == 1
    assert os.listdir() == ["sample.txt"]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system cannot interrupt a thread")
@pytest.mark.parametrize(
    ("while_", "said", "left"),
    [
        ("model.layers", "the conversion stops and leaves nothing.", ["sample.txt"]),
        ("checking", "the check stops; the new model is whole.", ["m", "sample.txt"]),
    ],
)
def test_an_interrupt_says_what_is_left(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, while_: str, said: str, left: list[str]
) -> None:
    from mlxnb.magics.background import Steps

    there, gone, report = threading.Event(), threading.Event(), Steps.report

    def slow(self: Steps, done: int, total: int, doing: str = "") -> None:
        self.now = (done, total, doing)
        if doing.startswith(while_):
            there.set()
            assert self.stopped.wait(60)
        try:
            report(self, done, total, doing)
        except Exception:
            gone.set()
            raise

    monkeypatch.setattr(Steps, "report", slow)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident
    assert main is not None
    presser = threading.Thread(target=lambda: there.wait(60) and signal.pthread_kill(main, signal.SIGINT))
    presser.start()
    error = shell.run_cell("%mlxnb convert pocket m --text sample.txt --quantize 4").error_in_exec
    presser.join()
    assert isinstance(error, KeyboardInterrupt)
    assert str(error) == said
    assert gone.wait(60)
    mlxnb.engine().call(lambda: None)  # behind the check
    for _ in range(100):
        if sorted(os.listdir()) == left:
            break
        threading.Event().wait(0.05)
    assert sorted(os.listdir()) == left
