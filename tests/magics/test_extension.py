"""Loading and unloading the extension."""

from __future__ import annotations

import subprocess
import sys

import pytest
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
from tests.magics.kernel import ROOT
from tests.scripted import ScriptedBackend

LOAD = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("import json")
before = set(sys.modules)
shell.run_line_magic("load_ext", "mlxnb")
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))
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


def test_loading_reads_nothing_but_this_package(tmp_path: object) -> None:
    """So it is fast: in a notebook that has begun, no library at all is imported, however small."""
    environment = {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", LOAD]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert out.splitlines()[-1].split() == ["IPython", "mlxnb"]


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
