"""`%profile_model` and `%%profile_model` in a real shell, on a backend that follows a script."""

from __future__ import annotations

import io
import json
import signal
import threading
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from mlxnb.errors import MlxnbError, ReportError
from mlxnb.hardware import Speed, Speeds
from mlxnb.profiling import Report
from mlxnb.request import Request
from mlxnb.runtime import Engine
from tests.scripted import ScriptedBackend

QUICK = "--scenario simple --runs 2 --warmup 0 --max-tokens 3"

pytestmark = pytest.mark.usefixtures("script", "known_speeds")
Run = Callable[[str], str]


@pytest.fixture
def known_speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast this machine is takes ten seconds to measure, and a script does not care."""
    known = Speeds((Speed("torch", "cpu", 2e10, {"float32": 1e11}),), at=0.0)
    monkeypatch.setattr("mlxnb.hardware.speeds", lambda store: known)
    monkeypatch.setattr("mlxnb.profiling.machine.environment._measured_here", {})


@pytest.fixture
def run(shell: InteractiveShell) -> Run:
    """Runs a cell; what it prints, its value included."""

    def run(cell: str) -> str:
        with redirect_stdout(io.StringIO()) as out:
            ran = shell.run_cell(cell)
        ran.raise_error()
        return out.getvalue()

    return run


def asked(script: ScriptedBackend) -> set[str]:
    """The last lines of all prompts. Before them stands a mark, since what has no tokenizer here may keep answers."""
    return {request.messages[-1].content.splitlines()[-1] for request in script.requests if request.messages}


def test_the_report_is_the_value(run: Run, shell: InteractiveShell) -> None:
    shown = run(f"%profile_model pocket {QUICK}")
    report = shell.user_ns["_"]
    assert isinstance(report, Report)
    assert report.partial is None
    assert {case.scenario for case in report.cases} == {"simple"}
    assert len([run for run in report.runs if run.timings is not None]) >= 2
    assert "simple" in shown
    run(f"r = %profile_model {QUICK}")
    assert isinstance(shell.user_ns["r"], Report)
    run(f"%profile_model {QUICK} --into kept")
    assert isinstance(shell.user_ns["kept"], Report)


def test_a_cell_is_the_prompt(run: Run, shell: InteractiveShell, script: ScriptedBackend) -> None:
    shell.user_ns["name"] = "heapq"
    run("%%profile_model --runs 2 --warmup 0 --max-tokens 2 --into r\nWhat is {{ name }} {for} us?\n")
    assert "What is heapq {for} us?" in asked(script)
    assert len(shell.user_ns["r"].cases) == 1
    run("%%profile_model --runs 1 --warmup 0 --max-tokens 2 --no-interpolate --into r\nWhat is {{ name }}?\n")
    assert "What is {{ name }}?" in asked(script)


def test_prompts_come_from_a_variable_or_a_file(
    run: Run, shell: InteractiveShell, script: ScriptedBackend, tmp_path: Path
) -> None:
    shell.user_ns["mine"] = ["What is zip?", "What is map?"]
    (tmp_path / "p.txt").write_text("What is any?\n---\nWhat is all?\n")
    run("%profile_model --prompts mine --runs 1 --warmup 0 --max-tokens 2 --into r")
    run(f"%profile_model --prompts {tmp_path / 'p.txt'} --runs 1 --warmup 0 --max-tokens 2 --into r")
    assert {"What is zip?", "What is map?", "What is any?", "What is all?"} <= asked(script)


def test_values_are_swept(run: Run, shell: InteractiveShell, script: ScriptedBackend) -> None:
    run(f"%profile_model {QUICK} --sweep temperature=0,0.5 top_k=3 --into r")
    report = shell.user_ns["r"]
    assert {case.varied.get("temperature") for case in report.cases} == {0.0, 0.5}
    assert {r.sampling.temperature for r in script.requests} == {0.0, 0.5}
    assert {r.sampling.top_k for r in script.requests} == {3}


def test_defaults_of_the_notebook_hold(run: Run, shell: InteractiveShell, script: ScriptedBackend) -> None:
    run("%config MLXNB.kv_bits = 8")
    run(f"%profile_model {QUICK} --into r")
    assert {request.kv_bits for request in script.requests} == {8}
    script.requests.clear()
    run(f"%profile_model {QUICK} --kv-bits none --into r")
    assert {request.kv_bits for request in script.requests} == {None}


def test_a_report_is_saved_and_held_against(run: Run, shell: InteractiveShell, tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    assert str(folder) in run(f"%profile_model {QUICK} --save {folder} --into first")
    assert json.loads((folder / "report.json").read_text())["cases"]
    assert run(f"%profile_model {QUICK} --against {folder} --into second").strip()
    assert run(f"%profile_model {QUICK} --against first --into second").strip()


@pytest.mark.parametrize("error", [ReportError("The disk is full.", "Name another folder."), KeyboardInterrupt()])
def test_a_report_that_cannot_be_written_is_shown_and_kept(
    shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Minutes of measuring are not lost to a full disk, or to whoever is tired of waiting for the pictures."""

    def failing(self: Report, folder: str) -> None:
        raise error

    monkeypatch.setattr(Report, "save", failing)
    with redirect_stdout(io.StringIO()) as out:
        ran = shell.run_cell(f"%profile_model {QUICK} --save {tmp_path}")
    assert isinstance(ran.error_in_exec, type(error))
    assert "Profile of pocket" in out.getvalue()
    assert "What was measured is in `_`." in out.getvalue()
    assert isinstance(shell.user_ns["_"], Report)
    with redirect_stdout(io.StringIO()) as out:
        shell.run_cell(f"%profile_model {QUICK} --save {tmp_path} --into kept")
    assert "What was measured is in `kept`." in out.getvalue()
    assert isinstance(shell.user_ns["kept"], Report)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--scenarios simple", "Unknown option --scenarios. Did you mean --scenario?"),
        ("--temperature 0", "Unknown option --temperature. To set it, write --sweep temperature=VALUE."),
        ("--top-k=3", "Unknown option --top-k. To set it, write --sweep top-k=VALUE."),
        ("--scenario smple", "simple"),
        ("--runs none", "runs is 'none'. It takes a whole number of at least 1."),
        ("--sweep temprature=0,1", "Did you mean temperature?"),
        ("temperature=0,1", "temperature=0,1 is no model. To measure with each value, write --sweep temperature=0,1."),
        ("--prompts nowhere.txt", "The text nowhere.txt cannot be read"),
        ("--against nowhere.json", "nowhere.json"),
        ("--against run", "run is a function, not a Report."),
        ("--save /dev/null/x", "cannot be written to /dev/null/x"),
        ("--into 3x", "'3x' is no name for a variable."),
        ("--slo ttft", "limits is 'ttft'. It takes figure=seconds"),
        ("--try 1", "There is no report yet. Profile a model first: %profile_model --quick"),
        ("--try one", "--try is 'one'. It takes the number of a finding"),
        ("--try 1 --quick", "--quick says nothing beside --try"),
        ("pocket --try 1", "pocket says nothing beside --try"),
        ("--runs", "--runs has no value."),
        ("{{ nothing }}", "nothing"),
    ],
)
def test_mistakes_are_one_line(shell: InteractiveShell, line: str, message: str, run: Run) -> None:
    shell.user_ns["run"] = run
    with pytest.raises(MlxnbError) as caught:
        shell.run_cell(f"%profile_model {line}").raise_error()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mistakes_of_a_cell_are_one_line(shell: InteractiveShell, script: ScriptedBackend) -> None:
    for cell, message in [
        ("%%profile_model\n  \n", "There is no prompt. Write it below %%profile_model"),
        ("%%profile_model --prompts x\nHi", "There are prompts in the cell and in --prompts."),
        ("%%profile_model\n{{ nothing }}", "{{ nothing }} on line 1 of the prompt failed"),
    ]:
        with pytest.raises(MlxnbError) as caught:
            shell.run_cell(cell).raise_error()
        assert message in str(caught.value)
    shell.user_ns["mine"] = ["fine", 3]
    with pytest.raises(MlxnbError, match=r"mine has 3 in it\. --prompts takes a string, or a list"):
        shell.run_cell("%profile_model --prompts mine").raise_error()
    assert script.requests == []


def test_a_model_that_is_not_there_is_one_line(shell: InteractiveShell) -> None:
    with pytest.raises(MlxnbError, match="nowhere"):
        shell.run_cell(f"%profile_model nowhere {QUICK}").raise_error()


def test_help_is_the_docstring(run: Run, shell: InteractiveShell) -> None:
    assert run("%profile_model --help").strip() == shell.find_magic("profile_model").__doc__.strip()
    assert "--sweep FIELD=A,B,…" in run("%%profile_model --help\nx")


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system cannot interrupt a thread")
def test_an_interrupt_keeps_what_was_measured(
    shell: InteractiveShell, scripted: tuple[Engine, ScriptedBackend]
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _, script = scripted
    script.pieces = ["word "] * 6

    class Fourth(list):  # type: ignore[type-arg]
        """The script's requests; the fourth one that is measured is when the person presses stop."""

        def append(self, request: Request) -> None:
            super().append(request)
            if sum(each.max_tokens == 6 for each in self) == 4:
                script.delay = 0.2
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    script.requests = Fourth()
    with redirect_stdout(io.StringIO()) as out:
        ran = shell.run_cell("%profile_model --scenario simple --runs 40 --warmup 0 --max-tokens 6 --into kept")
    assert isinstance(ran.error_in_exec, KeyboardInterrupt)
    assert "the report of them is in `kept`" in str(ran.error_in_exec)
    report = shell.user_ns["kept"]
    assert report.partial
    assert 0 < sum(run.timings is not None for run in report.runs) < 40
    assert "simple" in out.getvalue()


def test_a_remedy_is_tried(run: Run, shell: InteractiveShell) -> None:
    run(f"%profile_model {QUICK} --into r")
    count = len(shell.user_ns["r"].findings)
    with pytest.raises(MlxnbError, match=f"There is no finding {count + 1}: the last report has {count} finding"):
        shell.run_cell(f"%profile_model --try {count + 1}").raise_error()
