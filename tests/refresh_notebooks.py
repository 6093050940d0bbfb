"""Runs the notebooks, or those that are named, with empty caches and stores what they show, after a change that shows.

`python -m tests.refresh_notebooks [NOTEBOOK ...]`
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat

from mlxnb.notebook_run import failed, read, run

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Variables for the kernels that start inside; what was there is back afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def refresh(path: Path) -> bool:
    """Run one notebook and write it back; whether every cell ended as it should. A failed run changes no file."""
    notebook = read(path)
    with tempfile.TemporaryDirectory() as folder, _environment(MLXNB_CACHE_DIR=folder):
        for cell, finished in run(notebook):
            if finished and failed(cell):
                print(f"{path.name}: cell {cell.id} failed: {cell.outputs[-1].evalue}", file=sys.stderr)
                return False
    nbformat.write(notebook, path)
    print(f"{path.name}: stored anew")
    return True


if __name__ == "__main__":
    named = [Path(name) for name in sys.argv[1:]]
    sys.exit(0 if all([refresh(path) for path in named or NOTEBOOKS]) else 1)
