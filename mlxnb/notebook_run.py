"""Runs a notebook in a fresh kernel of this very Python, one cell after the other."""

from __future__ import annotations

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


def run(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, bool]]:
    """Run the code cells in order, in place. Yields each cell with False before it runs, and with True after.

    A cell that fails is the last one, unless it is tagged `raises-exception`: `failed` tells.

    Raises:
        MlxnbError: nbclient is not installed, or the kernel died.
    """
    client = _client(notebook)
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    with client.setup_kernel(cleanup_kc=True):
        for index, cell in enumerate(notebook.cells):
            yield cell, False
            try:
                client.execute_cell(cell, index)
            except CellExecutionError:
                yield cell, True
                return
            except DeadKernelError:
                raise MlxnbError("The kernel died.", "Its memory may have run out; close other programs.") from None
            yield cell, True


def failed(cell: NotebookNode) -> bool:
    """Whether the cell that ran ended in an error that was not meant to come."""
    errors = any(output.output_type == "error" for output in cell.get("outputs", ()))
    return errors and "raises-exception" not in cell.metadata.get("tags", ())


def _client(notebook: NotebookNode) -> Any:
    try:
        import zmq
        from ipykernel.kernelspec import get_kernel_dict
        from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
        from jupyter_client.manager import AsyncKernelManager
        from nbclient import NotebookClient
    except ImportError as error:
        raise MlxnbError(f"Running a notebook needs {error.name}.", f"Install it: {EXTRA}") from error

    class ThisPython(KernelSpecManager):
        """Knows one kernel: the running interpreter's, whether or not one is registered, and whatever else is."""

        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return KernelSpec(**get_kernel_dict())

    manager = AsyncKernelManager(kernel_spec_manager=ThisPython())
    # Recent kernels warn that other users of this machine could listen, unless the channel is encrypted.
    if manager.has_trait("transport_encryption") and zmq.has("curve"):
        manager.transport_encryption = "auto"
    # What a kernel that is being stopped logs about its closed channels helps nobody.
    quiet = ["--IPKernelApp.log_level=50"]
    options = {"timeout": TIMEOUT, "coalesce_streams": True, "record_timing": False, "extra_arguments": quiet}
    return NotebookClient(notebook, km=manager, **options)
