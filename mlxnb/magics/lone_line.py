"""Lets `%%generate --each df.question` stand without a body, which IPython refuses: the rows are the prompts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

LONE = re.compile(r"%%(generate\s(?:.*\s)?--each[\s=].*)")


def lone_line(lines: list[str]) -> list[str]:
    """A cell that is such a line and nothing else, as the line magic that says the same."""
    found = LONE.fullmatch("".join(lines).strip())
    return [f"%{found[1]}\n"] if found else lines


def install(shell: InteractiveShell) -> None:
    """Have the shell read such cells, ahead of what it makes of a cell magic."""
    shell.input_transformer_manager.cleanup_transforms.insert(0, lone_line)


def uninstall(shell: InteractiveShell) -> None:
    """Have it read them as before."""
    shell.input_transformer_manager.cleanup_transforms.remove(lone_line)
