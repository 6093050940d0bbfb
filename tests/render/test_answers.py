"""Several answers in one output, and tokens shaded by their probability; nothing of a stranger's runs."""

from __future__ import annotations

import math

import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb.errors import GenerationError, OptionError
from mlxnb.render import mimebundle
from mlxnb.render.answers import comparison_bundle, samples_bundle
from mlxnb.render.differences import MOST_WORDS, differences
from mlxnb.render.logprobs import LogprobsView, percent, visible
from mlxnb.result import Result, TokenLogprob

from .hostile import ALL
from .samples import make_result
from .strategies import mixed

OWN = {"div", "style", "span", "pre", "ins", "del", "hr", "details", "summary"}


def token(text: str, probability: float = 0.5, *beside: str) -> TokenLogprob:
    top = tuple(TokenLogprob(7, other, math.log(0.25)) for other in beside)
    return TokenLogprob(1, text, math.log(probability), top)


def soup(bundle: dict[str, str]) -> BeautifulSoup:
    return BeautifulSoup(bundle["text/html"], "html.parser")


def told(*entries: TokenLogprob) -> Result:
    return make_result("".join(entry.text for entry in entries), logprobs=entries)


def test_each_token_has_its_shade_and_its_alternatives() -> None:
    result = told(
        token("Yes", 0.97), token(" and", 0.6), token(" no", 0.3), token("\n", 0.1), token("x", 0.01, "y", "\n")
    )
    page = soup(mimebundle(result, "logprobs"))
    spans = page.select(".mlxnb-tokens > .mlxnb-token")
    assert [span["class"][1] for span in spans] == ["mlxnb-p4", "mlxnb-p3", "mlxnb-p2", "mlxnb-p1", "mlxnb-p0"]
    assert page.select_one(".mlxnb-tokens").get_text() == "Yes and no\nx"  # type: ignore[union-attr]
    assert str(spans[4]["title"]).splitlines() == [
        f"x   1{chr(0x202F)}%   (ln -4.605)",
        "likeliest here:",
        f"1. y   25{chr(0x202F)}%",
        f"2. ↵   25{chr(0x202F)}%",
    ]
    assert "↵" in str(spans[3]["title"])
    mean = -math.log(0.97 * 0.6 * 0.3 * 0.1 * 0.01) / 5
    assert f"perplexity {math.exp(mean):.3g} over 5 tokens" in page.select_one(".mlxnb-legend").get_text()  # type: ignore[union-attr]


def test_the_plain_twin_has_every_token() -> None:
    text = mimebundle(told(token("Yes", 0.97, "No"), token(" and", 0.6), token("", 0.3)), "logprobs")["text/plain"]
    lines = text.splitlines()
    assert lines[0] == "Yes and"
    assert [line.split()[0] for line in lines if "%" in line] == ["Yes", "␣and", "part"]
    assert "No 25" in text


def test_without_them_it_says_so_and_the_view_refuses() -> None:
    bundle = mimebundle(make_result("Hi."), "logprobs")
    assert "no log-probabilities were told" in bundle["text/plain"]
    assert "Hi." in soup(bundle).get_text()
    with pytest.raises(OptionError, match="Ask with logprobs=5"):
        LogprobsView(make_result("Hi."))
    assert repr(LogprobsView(told(token("Hi")))) == mimebundle(told(token("Hi")), "logprobs")["text/plain"]
    assert mimebundle(make_result("", logprobs=()), "logprobs")["text/plain"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [(" a b ", "␣a b␣"), ("\n\t", "↵⇥"), ("", "part of a character"), ("\x07", "U+0007"), ("  ", "␣␣"), ("é", "é")],
)
def test_what_cannot_be_seen_has_a_sign(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_percent() -> None:
    assert [percent(p).replace("\u202f", " ") for p in (1.0, 0.9995, 0.5, 0.00123, 1e-9, 0.0)] == [
        "100 %", "> 99.9 %", "50 %", "0.123 %", "< 0.01 %", "0 %",
    ]  # fmt: skip


def test_answers_in_json_are_marked_as_they_are_shown() -> None:
    answers = [make_result('{"a": 1, "b": [2]}'), make_result('{"a":3,"b":[2]}')]
    bundle = comparison_bundle(["one", "two"], answers, None, "json")
    first, second = soup(bundle).select(".mlxnb-answer")
    assert first.get_text().rstrip() == '{\n  "a": 1,\n  "b": [\n    2\n  ]\n}'
    assert [each.get_text() for each in second.select("ins, del")] == ["1", "3"]
    assert '"a": [-1-]{+3+},' in bundle["text/plain"]


@pytest.mark.parametrize("name", ALL)
def test_hostile_text_in_every_place(name: str) -> None:
    text = ALL[name]
    entry = TokenLogprob(1, text, -1.0, (TokenLogprob(2, text, -2.0),))
    result = make_result(text, thinking=text, model=text, notes=(text,), logprobs=(entry, entry))
    failed = GenerationError(text, text, result)
    for bundle in (
        mimebundle(result, "logprobs"),
        samples_bundle([result, failed], "logprobs"),
        comparison_bundle([text, "b", text], [make_result("one"), result, failed]),
    ):
        page = soup(bundle)
        for part in page.select(".mlxnb-thought > div"):
            part.clear()
        assert {tag.name for tag in page.find_all(True)} <= OWN
        assert {name for tag in page.find_all(True) for name in tag.attrs} <= {"class", "title", "dir"}
        assert "\x1b" not in bundle["text/plain"]


@given(st.lists(st.tuples(mixed, st.floats(-1000, 0)), max_size=4))
@settings(deadline=None, max_examples=100)
def test_any_tokens_can_be_shown(entries: list[tuple[str, float]]) -> None:
    made = tuple(TokenLogprob(0, text, logprob, (TokenLogprob(1, text, logprob),)) for text, logprob in entries)
    for value in mimebundle(make_result("a", logprobs=made), "logprobs").values():
        value.encode()
        assert "\x1b" not in value


def test_samples_are_numbered_and_counted() -> None:
    answers = [make_result("One."), make_result("One."), GenerationError("It broke.", "Mend it.")]
    bundle = samples_bundle(answers)
    headings = [heading.get_text() for heading in soup(bundle).select(".mlxnb-heading")]
    assert headings == ["1 of 3, seed 7", "2 of 3, seed 7", "3 of 3"]
    assert bundle["text/plain"].endswith("2 answers, 1 different · 1 failed")
    assert "✗ It broke. Mend it." in bundle["text/plain"]
    assert soup(bundle).get_text().count("212") == 2  # each has its figures


def test_a_comparison_marks_what_differs_by_more_than_colour() -> None:
    answers = [make_result("The cat sat down."), make_result("The dog sat."), make_result("The cat sat down.")]
    bundle = comparison_bundle(["a", "b", "c"], answers)
    first, second, third = soup(bundle).select(".mlxnb-one")
    assert first.select("ins, del") == []
    assert [tag.get_text() for tag in second.select("ins")] == ["dog "]
    assert [tag.get_text() for tag in second.select("del")] == ["cat ", "down"]
    assert third.select("ins, del") == []
    assert "The [-cat -]{+dog +}sat" in bundle["text/plain"]
    assert "the first answer, word for word" in third.get_text()


def test_an_arm_that_failed_shows_why_and_the_next_is_the_first() -> None:
    partial = make_result("So far")
    answers = [GenerationError("It broke.", "", partial), make_result("Yes."), make_result("No.")]
    bundle = comparison_bundle(["a", "b", "c"], answers)
    assert "So far" in bundle["text/plain"]
    assert "It broke." in bundle["text/plain"]
    assert "[-Yes-]{+No+}" in bundle["text/plain"]
    assert "{+" not in comparison_bundle(["b", "c"], answers[1:], "markdown")["text/plain"]


@given(st.text(max_size=60), st.text(max_size=60))
def test_what_is_same_and_new_is_the_text_and_same_and_gone_the_first(first: str, text: str) -> None:
    found = differences(first, text)
    assert "".join(words for kind, words in found.parts if kind != "gone") == text
    kept = "".join(words for kind, words in found.parts if kind != "new")
    assert "".join(kept.split()) == "".join(first.split())
    assert 0 <= found.share <= 1
    assert differences(text, text).share == 1


def test_long_texts_are_compared_by_lines() -> None:
    lines = [f"line {i} of it\n" for i in range(MOST_WORDS)]
    found = differences("".join(lines), "".join([*lines[:5], "another\n", *lines[5:]]))
    assert [words for kind, words in found.parts if kind == "new"] == ["another\n"]
