"""The notebooks: each runs, and shows what is stored in it (`python -m tests.refresh_notebooks` stores it anew)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.refresh_notebooks import NOTEBOOKS, refresh

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


@pytest.mark.slow
@each_notebook
def test_it_shows_what_is_stored(path: Path, tmp_path: Path, compiled_kernels: Path) -> None:
    options = ["--nbval", "--nbval-current-env", "--nbval-sanitize-with", "tests/nbval_sanitize.cfg"]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *options, str(path)]
    # Empty, as when it was stored, but for compiled kernels, which show in nothing but the time that it takes.
    environment = {**ENVIRONMENT, "MLXNB_CACHE_DIR": str(tmp_path)}
    (compiled_kernels / "emulator").mkdir(exist_ok=True)
    (tmp_path / "emulator").symlink_to(compiled_kernels / "emulator", target_is_directory=True)
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@each_notebook
def test_it_is_stored_as_it_ran(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        failed = any(output.output_type == "error" for output in cell.outputs)
        assert failed == ("raises-exception" in cell.metadata.get("tags", []))
        assert not any(output.get("name") == "stderr" for output in cell.outputs)
    assert str(Path.home()) not in path.read_text(encoding="utf-8")
    assert str(ROOT) not in path.read_text(encoding="utf-8")


def test_a_notebook_that_fails_is_not_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fails.ipynb"
    cells = [nbformat.v4.new_code_cell("1 / 0", id="zero"), nbformat.v4.new_code_cell("2", id="two")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    before = path.read_bytes()
    assert not refresh(path)
    assert path.read_bytes() == before
    assert "fails.ipynb: cell zero failed: division by zero" in capsys.readouterr().err
