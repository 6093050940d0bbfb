"""The line that tells how far work is, on a terminal: one line, whatever it has to say."""

from __future__ import annotations

import io
import os
import sys

import pytest

from mlxnb.render import columns
from mlxnb.render.text import shortened
from mlxnb.render.work import WorkCell


class Screen(io.StringIO):
    """A terminal that remembers what was written to it."""

    def isatty(self) -> bool:
        return True


def test_the_line_is_no_longer_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes on in the next line would be wiped only in part, and stand there ever after."""
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(columns.shutil, "get_terminal_size", lambda: os.terminal_size((50, 24)))
    with WorkCell("Profiling " + "a-model-of-a-very-long-name" * 4, interval=0) as cell:
        cell.update(3, 20, "medium, run 2 of 5 · about 12 s left")
    line = screen.getvalue().split("\x1b[K")[1].rstrip("\r")
    assert line.startswith("Profiling a-model")
    assert line.endswith("about 12 s left")
    assert len(line) == 49
    assert screen.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize("longest", [0, 1, 2, 3, 10, 11])
def test_a_shortened_text_is_no_longer_than_asked(longest: int) -> None:
    assert len(shortened("0123456789a", longest)) <= max(1, longest)


def test_where_the_output_goes_to_a_file_the_line_is_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    out, screen = io.StringIO(), Screen()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", screen)
    with WorkCell("Profiling", interval=0) as cell:
        cell.update(1, 2)
    assert out.getvalue() == ""
    assert screen.getvalue() == "\r\x1b[KProfiling · 1 of 2\r\x1b[K"
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with WorkCell("Profiling", interval=0) as cell:
        cell.update(1, 2)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
