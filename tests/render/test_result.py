"""A finished Result: its answer in each format, its thinking, its footer, and the same as text."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb.decision import Absent
from mlxnb.render import describe, footer_text, mimebundle
from mlxnb.render.footer import backend_words
from mlxnb.render.formats import FORMATS
from mlxnb.render.text import RULE
from mlxnb.result import Speculation

from .allowed import CLASSES, faults
from .hostile import ALL
from .samples import FALLBACK, make_result, thoughtful
from .strategies import mixed

FOOTER = "pocket model · torch cpu · 48 tokens · 212 tok/s · first token 38 ms · reused 120 of 131 · stop"


def soup(result: object, format: str = "markdown") -> BeautifulSoup:
    return BeautifulSoup(mimebundle(result, format)["text/html"], "html.parser")  # type: ignore[arg-type]


def test_footer() -> None:
    assert footer_text(make_result()) == FOOTER


def test_a_backend_is_not_named_twice() -> None:
    assert backend_words("torch", "torch 2.13.0, transformers 5.23.0") == "torch 2.13.0, transformers 5.23.0"
    assert backend_words("llamacpp", "llama-cpp-python 0.3") == "llamacpp llama-cpp-python 0.3"
    assert backend_words("mlx", "") == "mlx"


def test_footer_with_loading() -> None:
    assert "first token 2.14 s (2.1 s loading)" in footer_text(make_result(load_time=2.1))


def test_footer_names_another_model_as_it_is() -> None:
    assert footer_text(make_result(model="qwen3-0.6b")).startswith("qwen3-0.6b · ")


def test_undefined_figures_are_left_out() -> None:
    assert footer_text(make_result("", tokens=0)) == "pocket model · torch cpu · 0 tokens · reused 120 of 131 · stop"
    assert "tok/s" not in footer_text(make_result("a", tokens=1))
    assert "1 token ·" in footer_text(make_result("a", tokens=1))
    assert "reused" not in footer_text(make_result(reused_tokens=0))


def test_tokens_that_a_schema_gave_are_told_where_there_are_any() -> None:
    given = make_result(speculation=Speculation("schema", accepted=3))
    assert " · 3 tokens given by the schema · " in footer_text(given)
    assert "schema" not in footer_text(make_result(speculation=Speculation("schema")))
    assert "accepted 0 of 2 drafted" in footer_text(make_result(speculation=Speculation("lookup", proposed=2)))


@pytest.mark.parametrize(
    ("changes", "words", "reason"),
    [
        ({"finish_reason": "interrupted"}, "interrupted", "stopped before"),
        ({"finish_reason": "length", "max_tokens": 48}, "cut", "at 48 tokens: raise max_tokens"),
        ({"finish_reason": "length"}, "cut", "at 48 tokens: the model's context is full"),
        ({"passed_over": (FALLBACK,)}, "fallback", "needs Apple silicon"),
    ],
)
def test_warning_word_has_its_reason(changes: dict[str, object], words: str, reason: str) -> None:
    result = make_result(**changes)
    assert footer_text(result).endswith(f" · {words}")
    warning = soup(result).select_one(".mlxnb-footer .mlxnb-warn")
    assert warning is not None
    assert warning.text == words
    assert reason in str(warning["title"])


def test_a_backend_that_is_merely_absent_is_no_warning() -> None:
    result = make_result(passed_over=(Absent("torch", "torch not installed", "pip install it"),))
    assert footer_text(result).endswith(" · stop")
    assert "not installed" in describe(result)


def test_a_good_end_warns_of_nothing() -> None:
    assert not soup(make_result()).select(".mlxnb-warn")


def test_html_has_answer_thinking_rule_and_footer_in_this_order() -> None:
    page = soup(thoughtful())
    assert page.div is not None
    children = [child for child in page.div.children if child.name != "style"]  # type: ignore[union-attr]
    assert [(child.name, child.get("class", [""])[0]) for child in children] == [  # type: ignore[union-attr]
        ("div", "mlxnb-answer"),
        ("details", "mlxnb-thought"),
        ("hr", ""),
        ("div", "mlxnb-footer"),
    ]
    assert page.details is not None
    assert not page.details.has_attr("open")
    assert page.summary is not None
    assert page.summary.text == "Thought for 94.3 ms (20 tokens)"


def test_tooltip_and_description_tell_everything() -> None:
    result = make_result(passed_over=(FALLBACK,), notes=("context cut to 512 tokens",), stop=("\n",))
    text = describe(result)
    parts = (
        "pocket model|bundled @ 1|torch 2.13.0|bfloat16|seed|7|temperature 0|max_tokens 256|131 tokens, 120 reused"
        "|ended by stop|123 MB|sdpa|1\u202f024 tokens|mlx[cpu]|context cut to 512 tokens|queue 1 ms|297 tok/s"
    )
    for part in parts.split("|"):
        assert part in text
    footer = soup(result).select_one(".mlxnb-footer")
    assert footer is not None
    assert footer["title"] == text


def test_plain_twin() -> None:
    assert mimebundle(make_result("Hi."))["text/plain"] == f"Hi.\n{RULE}\n{FOOTER}"
    plain = mimebundle(thoughtful("Hi."))["text/plain"]
    assert plain == f"Hi.\n{RULE}\nThought for 94.3 ms (20 tokens)\n{FOOTER}"


def test_the_footer_tells_how_long_it_thought() -> None:
    footer = soup(thoughtful("Hi.")).select_one(".mlxnb-footer")
    assert footer is not None
    assert "48 tokens · thought 20 tokens in 94.3 ms · 212 tok/s" in footer.text
    plain = soup(make_result("Hi.")).select_one(".mlxnb-footer")
    assert plain is not None
    assert plain.text == FOOTER


def test_unknown_format() -> None:
    with pytest.raises(ValueError, match="markdown, text, code, json, html"):
        mimebundle(make_result(), "pdf")


def test_text_keeps_every_character() -> None:
    pre = soup(make_result("a  *b*\n  <i>c</i>"), "text").pre
    assert pre is not None
    assert pre.text == "a  *b*\n  <i>c</i>"


def test_code_shows_only_the_blocks() -> None:
    result = make_result("Look:\n```python\na = 1\n```\nand\n\n- x\n  ```sh\n  ls\n  ```\n")
    assert mimebundle(result, "code")["text/plain"].startswith(f"a = 1\nls\n{RULE}")
    assert [block.text for block in soup(result, "code").select("pre")] == ["a = 1\n", "ls\n"]


def test_code_without_a_fence_is_all_code() -> None:
    assert soup(make_result("a = 1"), "code").select(".highlight .n")
    assert not soup(make_result("no code here"), "code").select(".highlight span")


@pytest.mark.parametrize(
    "text", ['{"a": [1, "é"]}', '```json\n{"a": [1, "é"]}\n```', 'Here:\n```\n{"a":[1,"é"]}\n```\n']
)
def test_json_is_indented(text: str) -> None:
    assert mimebundle(make_result(text), "json")["text/plain"].startswith(
        f'{{\n  "a": [\n    1,\n    "é"\n  ]\n}}\n{RULE}'
    )


@pytest.mark.parametrize("text", ['{"a": ', "NaN", "[" * 100_000, "no json", "1" * 5000])
def test_json_that_is_none_is_shown_with_a_warning(text: str) -> None:
    page = soup(make_result(text), "json")
    assert page.pre is not None
    assert page.pre.text == text
    warning = page.select_one(".mlxnb-answer .mlxnb-warn")
    assert warning is not None
    assert "JSON" in warning.text


def test_html_is_cleaned() -> None:
    html = mimebundle(make_result("<h3 onclick=a>b</h3><script>c</script>"), "html")["text/html"]
    assert '<div class="mlxnb-answer mathjax_ignore tex2jax_ignore" dir="auto"><h3>b</h3></div>' in html


def foreign(page: BeautifulSoup) -> str:
    """The parts of a page that hold foreign text as HTML, without mlxnb's own frame around them."""
    return "".join(part.decode_contents() for part in page.select(".mlxnb-answer, .mlxnb-thought > div"))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ALL)
def test_hostile_text_in_every_place(name: str, format: str) -> None:
    text = ALL[name]
    result = thoughtful(text, thinking=text, model=text, source=text, device=text, notes=(text,), stop=(text,))
    page = soup(result, format)
    assert faults(foreign(page), CLASSES | {"mlxnb-footer", "mlxnb-warn"}) == []
    for part in page.select(".mlxnb-answer, .mlxnb-thought > div"):
        part.clear()
    own = {tag.name for tag in page.find_all(True)}
    assert own <= {"div", "style", "details", "summary", "hr", "span"}
    assert {name for tag in page.find_all(True) for name in tag.attrs} <= {"class", "title", "dir"}


@given(mixed, st.sampled_from(sorted(FORMATS)))
@settings(deadline=None, max_examples=200)
def test_plain_twin_has_no_control_characters(text: str, format: str) -> None:
    result = thoughtful(text, thinking=text, model=text or "a", device=text)
    bundle = mimebundle(result, format)
    assert all(c.isprintable() or c in "\n\t\u202f\u2028\u2029 " or ord(c) >= 160 for c in bundle["text/plain"])
    for value in bundle.values():
        value.encode()
        assert "\x1b" not in value
    assert "\n" not in footer_text(result)


def test_words_of_a_plain_answer_are_not_cut_in_two() -> None:
    """JupyterLab breaks the lines of any `pre` of an output within words, unless the output says otherwise."""
    assert "word-break:normal" in mimebundle(make_result("Some words."), "text")["text/html"]
