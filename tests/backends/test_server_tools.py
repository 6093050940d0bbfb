"""Tools through a server: what is sent, what is made of calls in pieces, and the whole way to an answer."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from mlxnb.errors import OptionError, PromptError, ServerError
from mlxnb.request import Request
from tests.backends.served import ask, engine_for, nothing_set  # noqa: F401
from tests.endpoint import DONE, Endpoint, Reply, piece, refuses, says, serving, usage

pytest.importorskip("openai", reason="the server backend needs the openai package")


def weather(city: str, days: int = 1) -> str:
    """Tell the weather of a city."""
    return f"21 °C in {city} for {days}"


def delta(index: int, name: str | None = None, arguments: str = "", id: str | None = None) -> dict[str, Any]:
    """An event with a piece of a call."""
    function = {**({"name": name} if name else {}), "arguments": arguments}
    return piece(tool_calls=[{"index": index, **({"id": id, "type": "function"} if id else {}), "function": function}])


CALLS = Reply(
    (
        piece("", role="assistant"),
        delta(0, "weather", "", "call_a"),
        delta(0, arguments='{"ci'),
        delta(1, "weather", '{"city": "Oslo", "days": 2}', "call_b"),
        delta(0, arguments='ty": "Rome"}'),
        piece(finish="tool_calls"),
        usage(9, 20),
        DONE,
    )
)


def chat(endpoint: Endpoint, **options: Any) -> Any:
    with engine_for() as engine:
        talk = engine.chats.open("trip")
        return talk.ask("Weather?", model=endpoint.url, backend="server", **options), talk


def test_calls_in_pieces_are_run_and_go_back() -> None:
    with serving(CALLS, says("It is ", "fine.")) as endpoint:
        result, talk = chat(endpoint, tools=[weather], allow=[weather])
    assert result.text == "It is fine."
    assert [(each.written(), each.output) for each in result.tool_calls] == [
        ('weather(city="Rome")', "21 °C in Rome for 1"),
        ('weather(city="Oslo", days=2)', "21 °C in Oslo for 2"),
    ]
    first, second = (asked.body for asked in endpoint.asked)
    [offered] = first["tools"]
    assert offered["type"] == "function"
    assert offered["function"]["name"] == "weather"
    assert offered["function"]["description"] == "Tell the weather of a city."
    assert offered["function"]["parameters"]["required"] == ["city"]
    assert second["tools"] == first["tools"]
    asked, answer, *tools = second["messages"]
    assert asked == {"role": "user", "content": "Weather?"}
    assert [(each["id"], json.loads(each["function"]["arguments"])) for each in answer["tool_calls"]] == [
        ("call_a", {"city": "Rome"}),
        ("call_b", {"city": "Oslo", "days": 2}),
    ]
    assert tools == [
        {"role": "tool", "content": "21 °C in Rome for 1", "tool_call_id": "call_a"},
        {"role": "tool", "content": "21 °C in Oslo for 2", "tool_call_id": "call_b"},
    ]
    assert (result.before[0].generation_tokens, result.before[0].finish_reason) == (20, "stop")
    assert result.before[0].timings.ttft is not None  # a piece of a call is a piece of an answer
    assert len(talk) == 1


def test_a_call_that_the_server_left_in_the_text_is_read() -> None:
    text = '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>'
    with serving(says("Hm. ", text[:20], text[20:]), says("Fine.")) as endpoint:
        result, _ = chat(endpoint, tools=[weather], allow=[weather])
    assert (result.text, result.before[0].text) == ("Fine.", "Hm. ")
    assert result.tool_calls[0].output == "21 °C in Rome for 1"
    assert endpoint.asked[1].body["messages"][1]["content"] == "Hm. "


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([delta(0, "weather", '{"city": "Ro', "a")], 'the call was not understood, .*: {"city": "Ro'),
        ([delta(0, "weather", "[1]", "a")], "the call was not understood"),
        ([delta(0, None, "{}", "a")], "the call was not understood"),
        ([delta(0, "weather", "", "a")], "the arguments do not fit: city: Field required"),
        ([delta(0, "rm_everything", "{}", "a")], "there is no tool 'rm_everything'"),
    ],
)
def test_broken_calls_are_told_to_the_model(pieces: list[dict[str, Any]], error: str) -> None:
    with serving(Reply((*pieces, piece(finish="tool_calls"), DONE)), says("Sorry.")) as endpoint:
        result, _ = chat(endpoint, tools=[weather], allow=[weather])
    [call] = result.tool_calls
    assert call.output is None
    assert re.search(error, call.error)
    answer = endpoint.asked[1].body["messages"][1]
    assert answer["tool_calls"][0]["function"]["name"]
    assert json.loads(answer["tool_calls"][0]["function"]["arguments"]) == dict(call.arguments)
    assert endpoint.asked[1].body["messages"][2]["content"] == f"Error: {call.error}"


def test_hostile_pieces_of_calls_are_no_harm() -> None:
    odd = [
        piece(tool_calls="x"),
        piece(tool_calls=[5, {"index": "a"}, {"function": 7}, {"index": 0, "id": 3, "function": {"name": ["x"]}}]),
        piece(tool_calls=[{"index": i, "function": {"name": f"f{i}", "arguments": "{}"}} for i in range(1000)]),
    ]
    with serving(Reply((*odd, piece("Fine."), piece(finish="stop"), DONE))) as endpoint:
        result = ask(endpoint, tools=[weather])
        plain = ask(endpoint)
    assert result.text == plain.text == "Fine."
    assert len(result.tool_calls) <= 64
    assert plain.tool_calls == ()


def test_a_server_that_refuses_tools_is_quoted() -> None:
    refusal = pytest.raises(ServerError, match="this model does not support tools")
    with serving(refuses(400, "this model does not support tools")) as endpoint, refusal:
        ask(endpoint, tools=[weather])


def test_the_context_of_a_server_cannot_be_counted() -> None:
    with serving(says("ok")) as endpoint, engine_for() as engine:
        talk = engine.chats.open("trip")
        options = {"model": endpoint.url, "backend": "server"}
        talk.ask("a", overflow="drop", **options)
        with pytest.raises(OptionError, match=r"overflow drop cannot be done for .*: the server backend does not tell"):
            talk.ask("b", overflow="drop", **options)
    assert len(endpoint.asked) == 1


def test_a_server_that_cuts_a_conversation_is_found_out() -> None:
    def counted(prompt: int) -> Reply:
        return Reply((piece("ok"), piece(finish="stop"), usage(prompt, 1), DONE))

    with serving(counted(50), counted(90), counted(64)) as endpoint, engine_for() as engine:
        talk = engine.chats.open("trip")
        results = [talk.ask("a", model=endpoint.url, backend="server") for _ in range(3)]
    notes = [[note for note in result.provenance.notes if note.startswith("overflow")] for result in results]
    said = "overflow: the server counted 64 tokens of a prompt that goes on from 90: it left out earlier turns"
    assert notes == [[], [], [said]]


def test_a_loop_of_ones_own_goes_by_openais_messages() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "21", "tool_call_id": "a", "name": "weather"},
    ]
    with serving(says("Fine.")) as endpoint:
        assert ask(endpoint, messages, tools=[weather]).text == "Fine."
    _, answer, tool = endpoint.asked[0].body["messages"]
    assert answer == {"role": "assistant", "content": "", "tool_calls": [call]}
    assert tool == {"role": "tool", "content": "21", "tool_call_id": "a"}


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"role": "assistant", "content": None}, "content is a NoneType"),
        ({"role": "assistant", "content": "", "tool_calls": "x"}, "tool_calls hold 'x'"),
        ({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}, "tool_calls hold "),
        (
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": 1, "arguments": "{}"}}]},
            "tool_calls hold ",
        ),
        (
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
            "tool_calls hold ",
        ),
        ({"role": "tool", "content": "", "tool_call_id": 5}, "tool_call_id is a int, not a string"),
    ],
)
def test_a_message_that_is_none_says_so(message: dict[str, Any], says: str) -> None:
    with pytest.raises(PromptError, match=says):
        Request.of([message, {"role": "user", "content": "Hi"}])
