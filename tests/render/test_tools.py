"""Steps on the way to an answer, and conversations: made safe, whatever was called, said or given back."""

from __future__ import annotations

from typing import Any

import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.conversation import Conversation
from mlxnb.render import describe, footer_text, mimebundle
from mlxnb.render.chats import WholeChat
from mlxnb.render.tools import called_bundle, calling_bundle, summary_bundle
from mlxnb.request import Message
from mlxnb.tools import ToolCall

from .hostile import ALL
from .samples import make_result

DONE = ToolCall("weather", {"city": "Rome", "days": 2}, "a", output="21 °C\nand sun")


class Talk:
    """What WholeChat reads of a Chat."""

    def __init__(self, name: str, conversation: Conversation) -> None:
        self.name, self.conversation = name, conversation


def soup(bundle: dict[str, str]) -> BeautifulSoup:
    return BeautifulSoup(bundle["text/html"], "html.parser")


def test_a_call_is_a_line_with_all_of_it_folded() -> None:
    assert calling_bundle(DONE)["text/plain"] == 'running weather(city="Rome", days=2)'
    bundle = called_bundle(DONE)
    assert bundle["text/plain"] == 'weather(city="Rome", days=2) → 21 °C and sun'
    page = soup(bundle)
    assert page.summary is not None
    assert page.pre is not None
    assert page.summary.text == bundle["text/plain"]
    assert page.pre.text == "21 °C\nand sun"
    assert not page.select(".mlxnb-warn")
    failed = soup(called_bundle(ToolCall("weather", error="KeyError: 'x'")))
    assert [each.text for each in failed.select(".mlxnb-warn")] == ["Error: KeyError: 'x'"]


def test_long_ones_are_cut_on_the_line() -> None:
    bundle = called_bundle(ToolCall("f", {"x": "a" * 5000}, output="b" * 50_000))
    assert len(bundle["text/plain"]) < 500
    assert "b" * 10_000 in bundle["text/html"]
    assert len(bundle["text/html"]) < 30_000


def dangers(page: BeautifulSoup) -> list[str]:
    bad = [tag.name for tag in page.find_all(["script", "img", "iframe", "svg", "object", "base", "link", "form"])]
    return bad + [name for tag in page.find_all(True) for name in tag.attrs if name.startswith("on")]


def check(text: str) -> None:
    call = ToolCall(text, {text: text, "more": [text]}, text, output=text, error=text)
    said = (
        Message("system", text),
        Message("user", text),
        Message("assistant", text, (call,)),
        Message("tool", text, name=text),
        Message("assistant", text),
    )
    talk: Any = Talk(text, Conversation(said, model=text, summary=text, left_out=1))
    result = make_result(
        text, tool_calls=(call,), before=(make_result(text),), left_out=1, notes=("overflow: " + text,)
    )
    bundles = [
        calling_bundle(call),
        called_bundle(call),
        called_bundle(ToolCall(text, error=text)),
        summary_bundle(make_result(text), 2),
        WholeChat(talk)._repr_mimebundle_(),
        mimebundle(result),
    ]
    for bundle in bundles:
        assert dangers(soup(bundle)) == []
        assert "\x1b" not in bundle["text/plain"] + bundle["text/html"]
        (bundle["text/plain"] + bundle["text/html"]).encode()


@pytest.mark.parametrize("text", ALL.values(), ids=ALL)
def test_hostile_texts(text: str) -> None:
    check(text)


@given(st.text(st.characters(), max_size=40))
def test_any_text(text: str) -> None:
    check(text)


def test_the_footer_tells_what_a_turn_took() -> None:
    note = "overflow: the oldest 2 turns left out for the context of 1024 tokens; the model was not given them"
    result = make_result(
        tool_calls=(DONE, DONE), before=(make_result(), make_result(tokens=9)), left_out=2, notes=(note,)
    )
    assert " · 2 tool calls · 57 tokens in 2 generations before · stop · 2 turns left out" in footer_text(result)
    [warning] = soup(mimebundle(result)).select(".mlxnb-footer .mlxnb-warn")
    assert (warning.text, warning["title"]) == ("2 turns left out", note)
    told = describe(result)
    assert 'weather(city="Rome", days=2) gave 21 °C and sun' in told
    assert "before" in told
    assert "2 generations, 57 tokens, " in told
    cut = make_result(notes=("overflow: the server counted 5 tokens of a prompt that goes on from 9",))
    assert footer_text(cut).endswith(" · stop · turns left out")


def test_a_conversation_says_what_is_not_given_any_more() -> None:
    said = tuple(Message(role, role) for role in ("user", "assistant") * 2)
    talk: Any = Talk("trip", Conversation(said, left_out=1))
    assert "1 · user · left out\nuser" in repr(WholeChat(talk))
    assert "2 · user\nuser" in repr(WholeChat(talk))
    talk.conversation = Conversation(said, left_out=1, summary="short")
    shown = repr(WholeChat(talk))
    assert "1 · user · left out, summarised" in shown
    assert "summary of what was left out\nshort" in shown


def test_a_summary_says_how_many_turns_it_stands_for() -> None:
    for turns, said in ((1, "The oldest turn summarised by"), (2, "The oldest 2 turns summarised by")):
        assert summary_bundle(make_result("Short."), turns)["text/plain"].startswith(said)
