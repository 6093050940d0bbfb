"""Foreign HTML keeps what is harmless and loses the rest."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from mlxnb.render import clean

from .allowed import faults
from .growth import assert_in_proportion
from .hostile import ALL
from .strategies import mixed


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<p>a <em>b</em></p>", "<p>a <em>b</em></p>"),
        ('<p id="a" class="b" style="c" onclick="d" title="e" data-x="f">g</p>', "<p>g</p>"),
        ('<td colspan="2">x', "x"),
        ("<table><tr><td colspan=2>x</table>", '<table><tbody><tr><td colspan="2">x</td></tr></tbody></table>'),
        ('a<img src="http://b.c/d.png" alt="a cat">', "a[image left out: a cat]"),
        ("a<img src=b>", "a[image left out]"),
        ("<script>a</script><style>b</style>c", "c"),
        ("<form><button>a</button></form>", "a"),
        ("<!-- a -->b", "b"),
        ("a\x1b[31m\x00b", "a[31mb"),
    ],
)
def test_clean(source: str, expected: str) -> None:
    assert clean(source) == expected


def test_links_open_apart_and_only_to_known_schemes() -> None:
    assert clean("<a href=https://b.c target=_top rel=opener>a</a>") == (
        '<a href="https://b.c" target="_blank" rel="noopener noreferrer">a</a>'
    )
    for bad in (
        "javascript:a",
        "JAVASCRIPT:a",
        " javascript:a",
        "java\nscript:a",
        "data:a",
        "/logout",
        "//a.b",
        "file:a",
    ):
        assert "href" not in clean(f"<a href='{bad}'>a</a>")


@pytest.mark.parametrize("name", ALL)
def test_hostile_text(name: str) -> None:
    html = clean(ALL[name])
    assert faults(html, frozenset()) == []
    assert faults(clean(html), frozenset()) == [], "something came to life on a second reading"


@given(mixed)
@settings(deadline=None, max_examples=300)
def test_any_text(text: str) -> None:
    assert faults(clean(text), frozenset()) == []


@pytest.mark.parametrize(
    "piece", ["<b>", "<div>", "<table>", "<a href=x>", "<img ", "<img alt='", "</p>", "<!--", "&", "<svg>"]
)
def test_time_stays_bounded(piece: str) -> None:
    assert_in_proportion(clean, piece)
