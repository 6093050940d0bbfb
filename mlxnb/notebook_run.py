"""Runs a notebook in a fresh kernel of this very Python, one cell after the other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import MlxnbError

if TYPE_CHECKING:
    from nbformat import NotebookNode

EXTRA = "pip install 'mlxnb[lab]'"
# A first cell may load a model on a busy machine; nothing in a notebook of ours takes longer than this.
TIMEOUT = 600


def read(path: Path) -> NotebookNode:
    """The notebook in `path`."""
    import nbformat

    return nbformat.read(path, as_version=4)


def run(notebook: NotebookNode) -> Iterator[NotebookNode]:
    """Run the code cells in order, in place; each cell is yielded twice, before and after it ran.

    A cell that fails ends the run with nbclient's CellExecutionError, unless it is tagged `raises-exception`.
    """
    client = _client(notebook)
    with client.setup_kernel(cleanup_kc=True):
        for index, cell in enumerate(notebook.cells):
            yield cell
            if cell.cell_type == "code":
                client.execute_cell(cell, index, execution_count=None)
                yield cell
    client.set_widgets_metadata()


def _client(notebook: NotebookNode) -> Any:
    try:
        from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
        from jupyter_client.manager import AsyncKernelManager
        from nbclient import NotebookClient
    except ImportError as error:
        raise MlxnbError(f"Running a notebook needs {error.name}.", f"Install it: {EXTRA}") from error

    class ThisPython(KernelSpecManager):
        """Knows one kernel: the running interpreter's, whether or not one is registered, and whatever else is."""

        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name="Python 3", language="python")

    manager = AsyncKernelManager(kernel_spec_manager=ThisPython())
    return NotebookClient(notebook, km=manager, timeout=TIMEOUT)
