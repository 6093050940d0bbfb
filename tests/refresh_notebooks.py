"""Runs every notebook and stores what it shows: `python -m tests.refresh_notebooks`, after a change that shows."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat

from mlxnb.notebook_run import failed, read, run

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def refresh(path: Path) -> bool:
    """Run one notebook and write it back; whether every cell ended as it should. A failed run changes no file."""
    notebook = read(path)
    for cell, finished in run(notebook):
        if finished and failed(cell):
            print(f"{path.name}: cell {cell.id} failed: {cell.outputs[-1].evalue}", file=sys.stderr)
            return False
    nbformat.write(notebook, path)
    print(f"{path.name}: stored anew")
    return True


if __name__ == "__main__":
    sys.exit(0 if all([refresh(path) for path in NOTEBOOKS]) else 1)
