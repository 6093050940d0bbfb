"""The `mlxnb` command, run as a person runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import mlxnb
from mlxnb import cli, demo, hardware
from mlxnb.errors import MlxnbError

ROOT = Path(__file__).parents[1]


def run(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "mlxnb.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, **environment},
        check=False,
    )


def notebook(folder: Path, *cells: str) -> Path:
    """A notebook of these code cells."""
    path = folder / "some.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    return path


def test_version() -> None:
    assert run("--version").stdout == f"mlxnb {mlxnb.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["nope"], ["demo", "extra"]])
def test_a_wrong_command_says_how_it_goes(arguments: list[str]) -> None:
    ran = run(*arguments)
    assert ran.returncode == 2
    assert "usage: mlxnb" in ran.stderr


@pytest.mark.slow
def test_demo_answers_in_a_bare_environment(tmp_path: Path) -> None:
    """With no kernel registered anywhere, from a folder that is not the project's."""
    ran = run("demo", cwd=tmp_path, JUPYTER_PATH=str(tmp_path), JUPYTER_DATA_DIR=str(tmp_path), HOME=str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    assert "    %%generate\n    What does itertools.chain do?\n" in ran.stdout
    assert ran.stdout.count("pocket model · ") >= 8
    assert "OptionError: Unknown option --temprature. Did you mean --temperature?" in ran.stdout
    assert "\x1b" not in ran.stdout
    assert ran.stderr == ""


def test_a_cell_that_fails_ends_the_run_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = notebook(tmp_path, "print('one')\n6 * 7", "raise ValueError('two\\nlines')", "print('three')")
    assert demo.play(path) == 1
    out = capsys.readouterr().out
    assert "    print('one')\n    6 * 7\n\none\n42\n" in out
    assert out.rstrip().endswith("\nValueError: two lines")
    assert "three" not in out


def test_a_kernel_that_dies_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MlxnbError, match="The kernel died"):
        demo.play(notebook(tmp_path, "import os; os._exit(1)"))


def test_demo_without_nbclient_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "nbclient", None)
    assert cli.main(["demo"]) == 1
    assert "pip install 'mlxnb[lab]'" in capsys.readouterr().err


def test_lab_copies_the_notebooks_and_keeps_changed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda program, arguments: started.append(arguments))
    folder = tmp_path / "mine"
    cli.main(["lab", str(folder)])
    copy = folder / cli.QUICK_START
    assert copy.read_bytes() == (ROOT / "notebooks" / cli.QUICK_START).read_bytes()
    copy.write_text("changed")
    cli.main(["lab", str(folder), "--no-browser"])
    assert copy.read_text() == "changed"
    assert "yours, kept" in capsys.readouterr().out
    first = [sys.executable, "-m", "jupyterlab", str(copy)]
    assert started == [first, [*first, "--no-browser"]]


def test_lab_without_jupyterlab_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mlxnb.cli.find_spec", lambda name: None)
    assert cli.main(["lab", str(tmp_path / "mine")]) == 1
    assert capsys.readouterr().err == "mlxnb: JupyterLab is not installed. Install it: pip install 'mlxnb[lab]'\n"
    assert not (tmp_path / "mine").exists()


def test_lab_in_a_place_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert cli.main(["lab", str(tmp_path / "file")]) == 1
    err = capsys.readouterr().err
    assert "cannot be copied to" in err
    assert err.count("\n") == 1


def test_an_interrupt_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "demo", stop)
    assert cli.main(["demo"]) == 130


@pytest.mark.slow
def test_doctor_says_what_this_machine_is(tmp_path: Path) -> None:
    ran = run("doctor", MLXNB_CACHE_DIR=str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    assert hardware.chip() in ran.stdout
    for part in ("backend mlx", "backend torch", "caches", "copy (GB/s)"):
        assert part in ran.stdout
    assert re.search(rf"^mlxnb +{re.escape(mlxnb.__version__)}$", ran.stdout, re.MULTILINE)


def test_backends_stand_in_a_table(tmp_path: Path) -> None:
    ran = run("backends", "pocket", MLXNB_CACHE_DIR=str(tmp_path))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Backends for pocket" in ran.stdout
    assert ran.stdout.count("● ready") >= 1
    assert "not measured" in ran.stdout
    wrong = run("backends", MLXNB_MODEL="a\tb")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("mlxnb: MLXNB_MODEL is 'a\\tb'. It takes a name")


def test_backends_are_measured(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    ran = run("backends", "--measure", MLXNB_CACHE_DIR=str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    assert "measuring torch (" in ran.stderr
    assert "torch" in ran.stdout
    assert list((tmp_path / "rates").glob("*.json"))
    again = run("backends", MLXNB_CACHE_DIR=str(tmp_path))
    assert again.stdout == ran.stdout
