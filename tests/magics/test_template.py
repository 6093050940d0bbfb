"""`{{ }}` in a prompt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.errors import TemplateError
from mlxnb.template import OPENING, interpolate


def boom() -> None:
    raise KeyError("gone\naway")


NAMES = {"x": 3, "rows": ["a", "b"], "boom": boom, "text": "{{ x }}"}


@given(st.text().filter(lambda text: not OPENING.search(text)))
def test_text_without_a_template_comes_back_as_it_is(text: str) -> None:
    assert interpolate(text, NAMES) == text


@given(st.text(alphabet="{}%#$ x\n\r'\"").filter(lambda text: not OPENING.search(text)))
def test_lone_braces_and_dollars_are_text(text: str) -> None:
    assert interpolate(text, NAMES) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ x }}", "3"),
        ("{x} $x {{ x }} f'{x}' {\"a\": 1}", "{x} $x 3 f'{x}' {\"a\": 1}"),
        ("{{ len(rows) }} {{ rows | join('-') }}", "2 a-b"),
        ("{{ text }}", "{{ x }}"),
        ("<b>{{ '<i>' }}</b>", "<b><i></b>"),
    ],
)
def test_templates_are_replaced(text: str, expected: str) -> None:
    assert interpolate(text, NAMES) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ nope }}", "{{ nope }} on line 1 of the prompt failed: 'nope' is undefined."),
        ("{{ x }}\n{{ x }} and {{ nope }} and {{ x }}", "{{ nope }} on line 2 of the prompt failed"),
        ("a\n{{ x.nope }}", "{{ x.nope }} on line 2"),
        ("{{ boom() }}", "{{ boom() }} on line 1 of the prompt failed: KeyError: 'gone\\naway'."),
        ("{{ x + }}", "{{ x + }} on line 1"),
        ("\n\n{{ }}", "{{ }} on line 3"),
        ("a {{ x", "{{ x on line 1"),
        ("{{ x | nope }}", "No filter named 'nope'"),
        ("{{ x.__class__ }}", "access to attribute '__class__' of 'int' object is unsafe."),
        ("{{ ''.__class__.__mro__ }}", "is unsafe."),
        ("{{ '{0.__class__}'.format(x) }}", "is unsafe."),
        ("{{ boom.__globals__ }}", "is unsafe."),
    ],
)
def test_a_failure_names_the_expression_and_its_line(text: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        interpolate(text, NAMES)
    assert message in caught.value.message
    assert "\n" not in str(caught.value)
    assert "--no-interpolate" in caught.value.remedy


def test_an_interrupt_inside_an_expression_goes_through() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interpolate("{{ stop() }}", {"stop": stop})


@pytest.mark.parametrize(
    "text", ["${#array[@]} {x}", r"\textbf{%", "{% for row in rows %}", "{# aside #}", "{ {x} }", "%} #} }}"]
)
def test_single_braces_are_just_text(text: str) -> None:
    assert interpolate(text, {}) == text
    assert interpolate(text + "{{ x }}", {"x": 3}) == text + "3"
