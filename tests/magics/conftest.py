"""A real shell with the extension, an engine that follows a script, and a real kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import mlxnb
from tests.magics.kernel import Kernel


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """A shell of the test's own, with the extension loaded."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    made = InteractiveShell.instance(config=config)
    mlxnb.load_ipython_extension(made)
    yield made
    mlxnb.unload_ipython_extension(made)
    InteractiveShell.clear_instance()


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """A real kernel with the extension loaded and a scripted backend beside the real ones."""
    with Kernel() as made:
        yield made
