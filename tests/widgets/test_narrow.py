"""Tables of a narrow panel: every cell is behind its column's title, and a title breaks out of no style sheet."""

from __future__ import annotations

from mlxnb.render.table import Table
from mlxnb.widgets.frame.narrow import stacking


def test_every_column_but_the_first_is_named_in_front_of_its_cells() -> None:
    page = stacking(Table(["path", ("context", "tokens"), "reason"], [("a", 1, "b")]), "found")
    assert '.mlxnb-found td:nth-child(2)::before{content:"context, tokens: "}' in page
    assert 'td:nth-child(3)::before{content:"reason: "}' in page
    assert "nth-child(1)" not in page
    assert page.count("<table>") == 1


def test_a_table_of_one_column_stays_as_it_is() -> None:
    table = Table(["kernels"], [["nothing"]])
    assert stacking(table, "state") == table.part()


def test_a_title_breaks_out_of_nothing() -> None:
    page = stacking(Table(["a", '"}</style><script>'], [(1, 2)]), "found")
    assert page.count("</style>") == 1
    assert "<script>" not in page
