"""Loading and unloading the extension."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
from tests.magics.kernel import ROOT
from tests.scripted import ScriptedBackend

HEAVY = ["mlx", "mlx_lm", "torch", "transformers", "matplotlib", "ipywidgets", "jinja2", "numpy"]
LOAD = f"""
import json, sys, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("import json")
began = time.perf_counter()
shell.run_line_magic("load_ext", "mlxnb")
took = time.perf_counter() - began
print(json.dumps([took, sorted(set({HEAVY!r}) & set(sys.modules))]))
"""


def state(shell: InteractiveShell) -> list[object]:
    """Everything of a shell that the extension changes."""
    return [
        dict(shell.magics_manager.magics["line"]),
        dict(shell.magics_manager.magics["cell"]),
        dict(shell.magics_manager.registry),
        list(shell.configurables),
        list(shell.Completer.custom_matchers),
        list(shell.input_transformer_manager.token_transformers),
        shell.display_trap.hook,
    ]


def test_loading_is_fast_and_loads_nothing_heavy(tmp_path: object) -> None:
    """In the best of three processes: a colleague's work on the same machine is not what is measured."""
    took = []
    for _ in range(3):
        environment = {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path)}
        command = [sys.executable, "-c", LOAD]
        out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        seconds, heavy = json.loads(out.splitlines()[-1])
        assert heavy == []
        took.append(seconds)
    assert min(took) < 0.3


def test_unloading_restores_the_shell_and_loading_again_works(shell: InteractiveShell) -> None:
    loaded = state(shell)
    mlxnb.unload_ipython_extension(shell)
    bare = state(shell)
    assert all(before != after for before, after in zip(loaded, bare, strict=True))
    mlxnb.unload_ipython_extension(shell)
    mlxnb.load_ipython_extension(shell)
    mlxnb.unload_ipython_extension(shell)
    assert state(shell) == bare


def test_loading_twice_changes_nothing(shell: InteractiveShell) -> None:
    before = state(shell)
    mlxnb.load_ipython_extension(shell)
    assert state(shell) == before


def test_an_answer_in_the_cell_that_loads_is_shown_once(
    shell: InteractiveShell, script: ScriptedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    mlxnb.unload_ipython_extension(shell)
    assert shell.run_cell("%load_ext mlxnb\n%generate Hi").success
    assert capsys.readouterr().out.count("Hello, world.") == 1
    assert shell.run_cell("r = %generate Hi\n%unload_ext mlxnb\nr").success
    assert capsys.readouterr().out.count("Hello, world.") == 2
