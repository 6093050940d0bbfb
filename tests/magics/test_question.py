"""A prompt that ends in a question mark."""

from __future__ import annotations

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import InteractiveShell

ASKED = "get_ipython().run_line_magic('generate', {!r})\n"


@pytest.mark.parametrize(
    ("cell", "python"),
    [
        ("%generate What is this?", ASKED.format("What is this?")),
        ("%generate --seed 1 What's this ??", ASKED.format("--seed 1 What's this ??")),
        ("r = %generate What is x?", "r = " + ASKED.format("What is x?")),
        ("r.a = %generate (x?", "r.a = " + ASKED.format("(x?")),
        ("if 1:\n    %generate What?\n", "if 1:\n    " + ASKED.format("What?")),
        ("x = 1\n%generate a?\n%generate b?\n", "x = 1\n" + ASKED.format("a?") + ASKED.format("b?")),
    ],
)
def test_it_goes_to_the_model(shell: InteractiveShell, cell: str, python: str) -> None:
    assert shell.transform_cell(cell) == python


@pytest.mark.parametrize(
    "cell",
    ["%generate?", "%generate ?", "%%generate?", "%timeit what?", "len?", "x = 1 % generate", "'''\n%generate a?\n'''"],
)
def test_everything_else_reads_as_before(shell: InteractiveShell, cell: str) -> None:
    assert shell.transform_cell(cell) == TransformerManager().transform_cell(cell)
