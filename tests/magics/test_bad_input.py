"""Each thing that a person can get wrong ends the cell with one line, in a real shell over the real engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
import mlxnb.pocket
from mlxnb import errors
from mlxnb.runtime import Engine
from tests.magics.kernel import ROOT
from tests.scripted import ScriptedBackend

POCKET = Path(mlxnb.pocket.__file__).parent / "model"
HIDDEN = """
import sys
sys.modules[{module!r}] = None
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="nocolor")
shell.run_line_magic("load_ext", "mlxnb")
sys.exit(shell.run_cell("%generate --backend {backend} Hi").success)
"""


@pytest.fixture(autouse=True)
def own_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This module's engine, and nothing of the machine's own models."""
    monkeypatch.setattr(mlxnb, "engine", lambda: engine)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("LOCAL_MODELS_DIR", raising=False)


def failure(shell: InteractiveShell, capsys: pytest.CaptureFixture[str], cell: str) -> str:
    """The one line that the cell shows, and it fails with what the line is about."""
    capsys.readouterr()
    ran = shell.run_cell(cell, store_history=True)
    captured = capsys.readouterr()
    lines = re.sub(r"\x1b\[[\d;]*m", "", captured.out + captured.err).strip().splitlines()
    assert not ran.success
    assert isinstance(ran.error_in_exec, errors.MlxnbError)
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"{type(ran.error_in_exec).__name__}: ")
    return lines[0]


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ("%generate", "EmptyPromptError: There is no prompt. Write it"),
        ("%generate r <<", "EmptyPromptError: There is no prompt."),
        ("%%generate\n   \n\n", "EmptyPromptError: There is no prompt."),
        ("%%generate\n{{ '' }}", "EmptyPromptError: There is no prompt."),
        ("%generate --temprature 1 Hi", "OptionError: Unknown option --temprature. Did you mean --temperature?"),
        ("%generate --temperature 11 Hi", "OptionError: temperature is 11.0. It takes a number from 0 to 10."),
        ("%generate --temperature hot Hi", "OptionError: temperature is 'hot'. It takes a number from 0 to 10."),
        ("%generate --top-p nan Hi", "OptionError: top_p is nan. It takes a number from 0 to 1."),
        ("%generate --max-tokens 0 Hi", "OptionError: max_tokens is 0. It takes a whole number"),
        ("%generate --seed x Hi", "OptionError: seed is 'x'. It takes a whole number"),
        ("%generate --seed 1.5 Hi", "OptionError: seed is '1.5'. It takes a whole number"),
        ("%generate --stop '' Hi", "OptionError: stop is ''."),
        (
            "%generate --format pdf Hi",
            "OptionError: format is 'pdf'. Formats are markdown, text, code, json, html, logprobs.",
        ),
        ("%generate --backend cuda Hi", "OptionError: There is no backend 'cuda'."),
        ("%generate --raw --chat Hi", "PromptError: A conversation needs the chat template."),
        ("%generate --raw --system x Hi", "PromptError: A system message needs the chat template."),
        ("%generate -m nope Hi", "ModelNotFoundError: No model goes by 'nope'."),
        ("%%generate\n{{ undefined }}", "TemplateError: {{ undefined }} on line 1 of the prompt failed: 'undefined'"),
        ("%%generate\na\n{{ 1 / 0 }}", "TemplateError: {{ 1 / 0 }} on line 2 of the prompt failed: ZeroDivisionError"),
        ("%generate --max-tokens {{ n }} Hi", "TemplateError: {{ n }} on line 1"),
    ],
)
def test_one_line(shell: InteractiveShell, capsys: pytest.CaptureFixture[str], cell: str, line: str) -> None:
    assert failure(shell, capsys, cell).startswith(line)


def test_an_empty_body_is_refused_by_ipython(shell: InteractiveShell) -> None:
    assert not shell.run_cell("%%generate\n").success


def test_a_folder_that_is_no_model(shell: InteractiveShell, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert failure(shell, capsys, f"%generate -m {tmp_path} Hi").startswith("NotAModelError: ")


def test_damaged_safetensors(shell: InteractiveShell, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(POCKET, tmp_path / "damaged"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    line = failure(shell, capsys, f"%generate -m {folder} Hi")
    assert line.startswith("DamagedModelError: ")
    assert "model.safetensors" in line


def test_no_tokenizer(shell: InteractiveShell, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(POCKET, tmp_path / "mute"))
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert failure(shell, capsys, f"%generate -m {folder} Hi").startswith("TokenizerMissingError: ")


def test_a_model_too_large(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(POCKET, tmp_path / "large"))
    monkeypatch.setattr("mlxnb.hardware.memory_free", lambda: 1_000_000)
    line = failure(shell, capsys, f"%generate -m {folder} Hi")
    assert line.startswith("ModelTooLargeError: ")
    assert "1 MB" in line


def test_a_local_name_that_leaves_its_folder(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    shutil.copytree(POCKET, tmp_path / "outside")
    monkeypatch.setenv("LOCAL_MODELS_DIR", str(tmp_path / "models"))
    line = failure(shell, capsys, "%generate -m mlx://../outside Hi")
    assert re.match(r"(ModelNotFound|NotAModel|Option)Error: ", line)
    assert ".." in line


@pytest.mark.parametrize(("backend", "module"), [("torch", "torch"), ("mlx", "mlx_lm")])
def test_a_backend_that_is_not_installed_names_what_to_install(backend: str, module: str, tmp_path: Path) -> None:
    code = HIDDEN.format(module=module, backend=backend)
    environment = {"PATH": "", "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    lines = re.sub(r"\x1b\[[\d;]*m", "", ran.stdout + ran.stderr).strip().splitlines()
    assert ran.returncode == 0, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("BackendMissingError: ")
    assert "pip install" in lines[0]


def test_an_empty_model_answer(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], script: ScriptedBackend
) -> None:
    script.pieces = []
    assert failure(shell, capsys, "%generate --quiet Hi").startswith("EmptyAnswerError: The model ended its turn")


def test_a_backend_that_breaks_down(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], script: ScriptedBackend
) -> None:
    script.fail_after = 1
    line = failure(shell, capsys, "%generate --quiet Hi")
    assert line.startswith("GenerationError: ")
    assert "the scripted driver fell over" in line


def test_an_interrupt_before_anything_was_asked(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlxnb.magics.generate.request_of", stop)
    assert isinstance(shell.run_cell("%generate Hi").error_in_exec, KeyboardInterrupt)
    assert capsys.readouterr().out.strip().endswith("KeyboardInterrupt\x1b[0m: stopped.")


def test_a_bug_keeps_its_traceback(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*args: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("mlxnb.magics.generate.request_of", bug)
    ran = shell.run_cell("%generate Hi")
    assert isinstance(ran.error_in_exec, RuntimeError)
    assert not hasattr(ran.error_in_exec, "_render_traceback_")
