"""Markdown becomes the HTML one expects, and never more than the allow-list has."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from mlxnb.render import to_html

from .allowed import faults
from .growth import assert_in_proportion
from .hostile import ALL
from .strategies import REPEATED, mixed


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("# A *b*", "<h1>A <em>b</em></h1>"),
        ("a ~~b~~ **c** `d<e`", "<p>a <s>b</s> <strong>c</strong> <code>d&lt;e</code></p>"),
        ("- a\n- b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>"),
        ("3. a", '<ol start="3">\n<li>a</li>\n</ol>'),
        ("a <b>c</b>", "<p>a &lt;b&gt;c&lt;/b&gt;</p>"),
        (
            "[a](https://b.c/?d=1&e=2)",
            '<p><a href="https://b.c/?d=1&amp;e=2" target="_blank" rel="noopener noreferrer">a</a></p>',
        ),
        ("[a](mailto:b@c.d)", '<p><a href="mailto:b@c.d" target="_blank" rel="noopener noreferrer">a</a></p>'),
        ("[a](ftp://b.c)", "<p>[a](ftp://b.c)</p>"),
        ("[a](/logout)", "<p>[a](/logout)</p>"),
        ("![a *cat*](http://b.c/d.png)", "<p>[image left out: a cat]</p>"),
        ("![](http://b.c/d.png)", "<p>[image left out]</p>"),
        ("it costs $5, not $6", "<p>it costs $5, not $6</p>"),
    ],
)
def test_markdown(source: str, expected: str) -> None:
    assert to_html(source).strip() == expected


def test_table_is_aligned_by_class() -> None:
    html = to_html("| a | b | c |\n|:--|--:|:-:|\n| 1 | 2 | 3 |")
    assert '<td class="mlxnb-right">2</td>' in html
    assert '<th class="mlxnb-center">c</th>' in html
    assert "style" not in html


def test_code_is_highlighted_and_kept_to_the_letter() -> None:
    html = to_html('```python\n\nx = "<b>"\n```')
    assert '<div class="highlight"><pre><code>\n<span class="n">x</span>' in html
    assert "&lt;b&gt;" in html


def test_unknown_language_is_plain() -> None:
    assert to_html("```brainfuck\n+<\n```") == '<div class="highlight"><pre><code>+&lt;\n</code></pre></div>\n'


@pytest.mark.parametrize("name", ALL)
def test_hostile_text(name: str) -> None:
    html = to_html(ALL[name])
    assert faults(html) == []


@given(mixed)
@settings(deadline=None, max_examples=300)
def test_any_text(text: str) -> None:
    html = to_html(text)
    assert faults(html) == []
    html.encode()
    assert "\x1b" not in html


@pytest.mark.parametrize("piece", REPEATED, ids=repr)
def test_time_stays_bounded(piece: str) -> None:
    assert_in_proportion(to_html, piece)
