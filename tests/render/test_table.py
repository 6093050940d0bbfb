"""Tables: aligned, escaped, folded after ten rows, and the same as text."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup

from mlxnb.render import Table
from mlxnb.render.cells import Command, Dot

from .hostile import ALL

TABLE = Table(
    ["backend", ("decode", "tok/s"), "state", "remedy"],
    [
        ["torch", 212.34, Dot("success", "ready"), None],
        ["mlx", None, Dot("warning", "missing"), Command("pip install 'mlx[cpu]'", "run")],
        ["日本", 12345, True, "two\nlines"],
    ],
    bold="backend",
    caption="Backends",
)


def soup(table: Table) -> BeautifulSoup:
    return BeautifulSoup(table.mimebundle()["text/html"], "html.parser")


def test_text() -> None:
    caption, head, rule, *rows = TABLE.text().split("\n")
    assert caption == "Backends"
    assert head == "backend  decode (tok/s)  state      remedy"
    assert set(rule) == {"─"}
    assert rows == [
        "torch               212  ● ready    –",
        "mlx                   –  ● missing  run pip install 'mlx[cpu]'",
        "日本             12\u202f345  yes        two lines",
    ]


def test_numbers_are_on_the_right_with_the_unit_in_the_head() -> None:
    page = soup(TABLE)
    heads = page.select("th")
    assert heads[1].text == "decode tok/s"
    assert [head.get("class") for head in heads] == [None, ["mlxnb-right"], None, None]
    assert [cell.get("class") for cell in page.select("tbody tr")[1].select("td")] == [
        None,
        ["mlxnb-right"],
        None,
        None,
    ]


def test_one_bold_column_and_a_word_beside_each_dot() -> None:
    page = soup(TABLE)
    assert [tag.text for tag in page.select("strong")] == ["torch", "mlx", "日本"]
    assert [tag.text for tag in page.select(".mlxnb-state")] == ["● ready", "● missing"]


def test_remedy_is_copyable_code() -> None:
    assert [code.text for code in soup(TABLE).select("code")] == ["pip install 'mlx[cpu]'"]


def test_rows_after_the_tenth_are_folded() -> None:
    page = soup(Table(["n"], [[i] for i in range(23)]))
    assert len(page.select("tbody:not(.mlxnb-rest) tr")) == 10
    assert len(page.select("tbody.mlxnb-rest tr")) == 13
    assert [summary.text for summary in page.select("summary")] == ["13 more rows"]
    assert not soup(Table(["n"], [[i] for i in range(10)])).select("details")


def test_repr_is_the_text() -> None:
    assert repr(TABLE) == TABLE.text() == TABLE.mimebundle()["text/plain"]
    assert TABLE._repr_mimebundle_() == TABLE.mimebundle()


def test_empty_table_has_its_head() -> None:
    assert Table(["a", "b"], []).text().startswith("a  b\n")
    assert len(soup(Table(["a", "b"], [])).select("th")) == 2


def test_bad_tables() -> None:
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Table(["a", "b"], [[1]])
    with pytest.raises(ValueError, match="no column"):
        Table(["a"], [], bold="b")


@pytest.mark.parametrize("name", ALL)
def test_every_cell_is_escaped(name: str) -> None:
    text = ALL[name]
    table = Table(
        [text, (text, text)], [[text, Dot("error", text)], [Command(text, text), None]], caption=text, bold=text
    )
    page = soup(table)
    own = {"div", "style", "table", "caption", "thead", "tbody", "tr", "th", "td", "span", "code", "strong"}
    assert {tag.name for tag in page.find_all(True)} <= own
    assert {name for tag in page.find_all(True) for name in tag.attrs} <= {"class", "scope"}
    assert "\x1b" not in table.text()
    assert table.text().count("\n") == 4
