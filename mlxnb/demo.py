"""Plays a notebook in the terminal: its prose, each cell's source, and what the cell showed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .notebook_run import failed, read, run

if TYPE_CHECKING:
    from nbformat import NotebookNode

BOLD, CYAN, RED, PLAIN = "\x1b[1m", "\x1b[36m", "\x1b[1;31m", "\x1b[0m"


def play(path: Path) -> int:
    """Run the notebook in a fresh kernel and print every cell as it comes; the exit status, 1 if a cell failed."""
    ended_well = True
    for cell, finished in run(read(path)):
        if not finished:
            print(source_text(cell), flush=True)
        elif cell.cell_type == "code":
            print(outputs_text(cell), flush=True)
            ended_well = not failed(cell)
    return 0 if ended_well else 1


def source_text(cell: NotebookNode) -> str:
    """A cell's source: prose with its headings in bold, code indented."""
    lines = cell.source.splitlines()
    if cell.cell_type == "code":
        return "\n".join(_ink(f"    {line}".rstrip(), CYAN) for line in lines) + "\n"
    return "\n".join(_ink(line.lstrip("# "), BOLD) if line.startswith("#") else line for line in lines) + "\n"


def outputs_text(cell: NotebookNode) -> str:
    """What a code cell showed, as text; of a traceback only its last line."""
    texts = (_output_text(output).strip("\n") for output in cell.outputs)
    shown = "\n".join(text for text in texts if text)
    return shown + "\n" if shown else ""


def _output_text(output: NotebookNode) -> str:
    if output.output_type == "stream":
        return str(output.text)
    if output.output_type == "error":
        return _ink(f"{output.ename}:", RED) + f" {' '.join(str(output.evalue).split())}"
    return str(output.data.get("text/plain", ""))


def _ink(text: str, code: str) -> str:
    """`text` in colour on a screen that wants it."""
    wanted = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return f"{code}{text}{PLAIN}" if wanted and text else text
