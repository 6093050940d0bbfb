"""`mlxnb profile`: the report as text, its files, what is refused, and an interrupt."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mlxnb
from mlxnb import cli
from mlxnb.errors import ReportError
from mlxnb.hardware import Speed, Speeds
from mlxnb.profiling import Report
from mlxnb.request import Request
from mlxnb.runtime import Engine
from tests.scripted import ScriptedBackend

QUICK = ["--scenario", "simple", "--runs", "2", "--warmup", "0", "--max-tokens", "3"]


@pytest.fixture
def script(scripted: tuple[Engine, ScriptedBackend], monkeypatch: pytest.MonkeyPatch) -> ScriptedBackend:
    """What answers; how fast this machine is takes ten seconds to measure, and a script does not care."""
    engine, backend = scripted
    monkeypatch.setattr(mlxnb, "engine", lambda: engine)
    monkeypatch.setenv("MLXNB_BACKEND", "scripted")
    known = Speeds((Speed("torch", "cpu", 2e10, {"float32": 1e11}),), at=0.0)
    monkeypatch.setattr("mlxnb.hardware.speeds", lambda store: known)
    monkeypatch.setattr("mlxnb.profiling.machine.environment._measured_here", {})
    return backend


def test_the_report_is_printed_and_written(
    script: ScriptedBackend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "deep" / "report.json", tmp_path / "saved"
    assert cli.main(["profile", *QUICK, "pocket", "--json", str(file), "--save", str(folder)]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("Profile of pocket\n")
    assert shown.err == ""
    assert json.loads(file.read_text())["cases"][0]["scenario"] == "simple"
    assert Report.from_json(file) == Report.from_json(folder)
    assert (folder / "report.md").is_file()
    assert {request.max_tokens for request in script.requests} <= {1, 3}


def test_an_earlier_report_is_held_against(
    script: ScriptedBackend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    assert cli.main(["profile", *QUICK, "--json", str(file)]) == 0
    assert cli.main(["profile", *QUICK, "--against", str(file)]) == 0
    assert "Against an earlier profile" in capsys.readouterr().out


def test_prompts_come_from_a_file_and_values_are_swept(script: ScriptedBackend, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("What is any?\n---\nWhat is all?\n")
    options = ["--runs", "1", "--warmup", "0", "--max-tokens", "2", "--sweep", "top_k=3,4", "--no-inside"]
    assert cli.main(["profile", "--prompts", str(tmp_path / "p.txt"), *options, "pocket"]) == 0
    asked = {(r.messages[-1].content.splitlines()[-1], r.sampling.top_k) for r in script.requests}
    assert {(f"What is {name}?", k) for name in ("any", "all") for k in (3, 4)} <= asked


def test_further_values_after_a_sweep_belong_to_it(script: ScriptedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["profile", "pocket", "--sweep", "top_k=3,4", "temperature=0,0.5", *QUICK]) == 0
    asked = {(r.sampling.top_k, r.sampling.temperature) for r in script.requests}
    assert {(k, t) for k in (3, 4) for t in (0.0, 0.5)} <= asked
    assert "not run" not in capsys.readouterr().out


def test_a_report_that_cannot_be_written_is_still_printed(
    script: ScriptedBackend, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Report, folder: str) -> None:
        raise ReportError("The report cannot be written.", "Name another folder.")

    monkeypatch.setattr(Report, "save", full)
    file = tmp_path / "report.json"
    assert cli.main(["profile", *QUICK, "--save", str(tmp_path / "x"), "--json", str(file)]) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("Profile of pocket\n")
    assert shown.err == "mlxnb: The report cannot be written. Name another folder.\n"
    assert Report.from_json(file).runs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["top_k=3"], "top_k=3 is no model. To measure with each value, write --sweep top_k=3."),
        (["--scenario", "smple"], "There is no scenario 'smple'. Did you mean simple?"),
        (["--against", "nowhere.json"], "nowhere.json"),
        (["--prompts", "nowhere.txt"], "The text nowhere.txt cannot be read"),
        (["--save", "/dev/null/x"], "The report cannot be written to /dev/null/x"),
        (["--sweep", "temprature=0,1"], "Did you mean temperature?"),
        (["nowhere", *QUICK], "nowhere"),
    ],
)
def test_mistakes_are_one_line(
    script: ScriptedBackend, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["profile", *options]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("mlxnb: ")
    assert message in shown.err
    assert shown.err.count("\n") == 1


def test_an_unknown_option_says_how_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    for given, said in [
        (["--frobnicate"], "unknown: --frobnicate\n"),
        (["--temperature", "0"], "unknown: --temperature. To set it, write --sweep temperature=VALUE.\n"),
    ]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["profile", "pocket", *given])
        assert ended.value.code == 2
        assert capsys.readouterr().err.endswith(said)


def test_an_interrupt_prints_what_was_measured(
    script: ScriptedBackend, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = Engine.submit
    measured: list[Request] = []

    def submitting(engine: Engine, request: Request) -> object:
        measured.extend([request] if request.max_tokens == 6 else [])
        if len(measured) == 4:
            raise KeyboardInterrupt
        return submit(engine, request)

    monkeypatch.setattr(Engine, "submit", submitting)
    file = tmp_path / "report.json"
    options = ["--scenario", "simple", "--runs", "40", "--warmup", "0", "--max-tokens", "6", "--json", str(file)]
    assert cli.main(["profile", *options]) == 130
    assert "Partial: interrupted" in capsys.readouterr().out
    report = Report.from_json(file)
    assert len([run for run in report.runs if run.timings is not None]) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end otherwise there")
def test_a_reader_that_has_read_enough_is_no_mistake() -> None:
    code = "import sys, mlxnb.cli as cli; cli.doctor = lambda again: print('x' * 10**6); sys.exit(cli.main(['doctor']))"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ran:
        assert ran.stdout is not None
        assert ran.stderr is not None
        assert ran.stdout.read(3) == "xxx"
        ran.stdout.close()
        assert ran.stderr.read() == ""
        assert ran.wait(60) == 1


def test_an_interrupt_before_anything_was_measured_closes_the_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While Python is whole: a library that is half imported when it ends prints tracebacks of its own."""
    closed = mlxnb.engine()

    def stopped(*models: str, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mlxnb, "profile", stopped)
    assert cli.main(["profile", "pocket"]) == 130
    assert capsys.readouterr().err == "mlxnb: stopped.\n"
    assert closed.closed
    assert mlxnb.engine() is not closed
