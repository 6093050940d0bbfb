"""A growing text: rendered in parts it equals the whole, and unfinished marks do not flash."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb.render.stream import Growing, unfinished

from .allowed import faults
from .growth import assert_in_proportion
from .samples import ANSWER
from .strategies import REPEATED, markdown, mixed


def grow(text: str, step: int) -> None:
    growing = Growing()
    for end in [*range(0, len(text), step), len(text)]:
        html = growing.html(text[:end])
        assert html == unfinished(text[:end]), text[:end]


@given(markdown, st.integers(1, 7))
@settings(deadline=None, max_examples=400)
def test_parts_equal_the_whole(text: str, step: int) -> None:
    grow(text, step)


def test_parts_equal_the_whole_for_an_answer() -> None:
    grow(ANSWER * 2, 1)


def test_finished_blocks_are_rendered_once() -> None:
    growing, text = Growing(), ANSWER * 10
    for end in range(0, len(text), 20):
        growing.html(text[:end])
    assert len(growing._done) > 0.9 * len(text)


@given(mixed)
@settings(deadline=None, max_examples=200)
def test_any_text(text: str) -> None:
    assert faults(Growing().html(text)) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a **bo", "<p>a <strong>bo</strong></p>"),
        ("a **bold*", "<p>a <strong>bold</strong></p>"),
        ("a **", "<p>a</p>"),
        ("a *it", "<p>a <em>it</em></p>"),
        ("a `co", "<p>a <code>co</code></p>"),
        ("a `", "<p>a</p>"),
        ("a ~~b", "<p>a <s>b</s></p>"),
        ("**a `b", "<p><strong>a <code>b</code></strong></p>"),
        ("a * b", "<p>a * b</p>"),
        ("snake_case_na", "<p>snake_case_na</p>"),
        ("see [the do", "<p>see the do</p>"),
        ("see [the docs](http://x.y/z", "<p>see the docs</p>"),
        ("see ![a ca", "<p>see</p>"),
        ("see <https://x.y/z", "<p>see https://x.y/z</p>"),
        ("text\n-", "<p>text</p>"),
        ("text\n--", "<p>text</p>"),
        ("text\n=", "<p>text</p>"),
        ("text\n\n#", "<p>text</p>"),
        ("- a\n-", "<ul>\n<li>a</li>\n</ul>"),
        ("1. a\n2", '<ol>\n<li>a</li>\n</ol>'),
        ("text\n\n| a | b", "<p>text</p>"),
        ("text\n\n| a | b |\n", "<p>text</p>"),
        ("text\n\n| a | b |\n|--", "<p>text</p>"),
        ("text\n\n```py", "<p>text</p>"),
    ],
)  # fmt: skip
def test_unfinished(text: str, shown: str) -> None:
    assert unfinished(text).strip() == shown


def test_open_fence_is_code_and_its_closing_marks_never_show() -> None:
    shown = [unfinished("```python\nx = 1\n" + "`" * n) for n in range(4)]
    assert len(set(shown)) == 1
    assert '<div class="highlight">' in shown[0]


@pytest.mark.parametrize(("opening", "closing"), [("$$", "$$"), ("\\[", "\\]")])
def test_half_a_formula_is_no_list(opening: str, closing: str) -> None:
    shown = unfinished(f"Sum:\n\n{opening}\nx\n- y")
    assert "<li>" not in shown
    assert f'<div class="mlxnb-math">{opening}\nx\n- y\n{closing}</div>' in shown
    assert unfinished(f"{opening}\nx\n{closing}\n").count(closing) == unfinished(f"{opening}\nx").count(closing)


def test_half_a_table_is_a_table() -> None:
    assert "<td>1</td>" in unfinished("| a | b |\n|---|---|\n| 1 |")


def test_nothing_shrinks_while_an_answer_comes() -> None:
    """Held-back marks may cost a line, never a block that was there."""
    blocks = 0
    for end in range(len(ANSWER)):
        html = unfinished(ANSWER[:end])
        now = sum(html.count(tag) for tag in ("<p>", "<li>", "<tr>", "<pre>", "<h1>", "<h2>"))
        assert now >= blocks, ANSWER[max(0, end - 60) : end]
        blocks = now


def test_a_reference_defined_late_reaches_back() -> None:
    growing = Growing()
    growing.html("[a][r]\n\nb\n\nc\n")
    assert '<a href="http://x.y"' in growing.html("[a][r]\n\nb\n\nc\n\n[r]: http://x.y\n")


@pytest.mark.parametrize("piece", REPEATED, ids=repr)
def test_time_stays_bounded(piece: str) -> None:
    assert_in_proportion(lambda text: Growing().html(text), piece)


def test_another_text_starts_afresh() -> None:
    growing = Growing()
    growing.html("a\n\nb\n\nc\n")
    assert growing.html("z") == unfinished("z")
