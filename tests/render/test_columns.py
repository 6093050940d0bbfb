"""Tables on a terminal: no line is wider than it, no word is cut, and nothing is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.render import columns
from mlxnb.render.cells import Bar
from mlxnb.render.columns import row, width, widths, wrapped
from mlxnb.render.table import Table

WORDS = st.lists(st.text("abcé漢", min_size=1, max_size=9), max_size=6).map(" ".join)
GRIDS = st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(WORDS, min_size=n, max_size=n), min_size=1, max_size=4))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 60 characters."""
    monkeypatch.setattr(columns, "line_width", lambda: 60)


@given(grid=GRIDS, room=st.integers(1, 120))
def test_columns_fit_where_their_words_do(grid: list[list[str]], room: int) -> None:
    sizes, gaps = widths(grid, room), columns.GAP * (len(grid[0]) - 1)
    words = [max(width(word) for cell in column for word in cell.split(" ")) for column in zip(*grid, strict=True)]
    assert all(size >= word for size, word in zip(sizes, words, strict=True))
    assert sum(sizes) + gaps <= room or sizes == words
    assert sum(widths(grid, room)) <= sum(widths(grid))
    said = " ".join(row(grid[0], sizes, [False] * len(sizes)).split()).split(" ")
    assert sorted(said) == sorted(" ".join(grid[0]).split() or [""])


def test_without_a_terminal_lines_have_no_end() -> None:
    assert columns.line_width() is None
    assert wrapped("a b " * 100, None) == ["a b " * 100]
    assert max(map(len, Table(("case", "reason"), [("x", "word " * 40)]).text().split("\n"))) > 200


@pytest.mark.usefixtures("terminal")
def test_a_wide_table_goes_on_in_further_lines() -> None:
    table = Table(
        ("case", ("decode, predicted", "tok/s"), "reason", ""),
        [("simple", 12.5, "the memory of this machine does not hold it with so much context", Bar(0.5))],
        caption="A caption that is longer than the terminal, which is why it goes on below itself.",
    )
    text = table.text()
    lines = text.split("\n")
    assert max(map(len, lines)) <= 60
    assert "A caption that is longer" in lines[0]
    assert [line.split()[-1] for line in lines if line.rstrip().endswith("reason")] == ["reason"]
    head = next(i for i, line in enumerate(lines) if "case" in line)
    assert "predicted" in lines[head - 1]  # the title's last line stands beside those of one line
    assert lines[head + 1].startswith("──")
    assert " ".join(text.split()).count("memory") == 1
    assert "━" * 12 in text


@pytest.mark.usefixtures("terminal")
def test_titles_give_way_before_what_stands_under_them() -> None:
    table = Table(("case", "a title of many words", "another of many words"), [("temperature 0.7, top_k 3", 1, 2)])
    assert "temperature 0.7, top_k 3" in table.text()
