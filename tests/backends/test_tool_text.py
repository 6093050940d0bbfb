"""The calls of each family are read out of its text, wherever a token ends; what is none stays an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.backends.tool_text import STYLES, Style, ToolText, style_of
from mlxnb.tools import Tool, ToolCall

HERMES, MISTRAL, LLAMA = STYLES
TOOL = Tool("weather", "", {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}})
ROME, PARIS = ToolCall("weather", {"city": "Rome"}), ToolCall("weather", {"city": "Paris"})
ONE = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'

CASES = {
    "hermes": (HERMES, ONE, "", [ROME]),
    "hermes after words": (HERMES, f"Let me see.\n{ONE}", "Let me see.\n", [ROME]),
    "hermes twice": (HERMES, f"{ONE}\n{ONE.replace('Rome', 'Paris')}", "", [ROME, PARIS]),
    "hermes never closed": (HERMES, ONE.removesuffix("</tool_call>"), "", [ROME]),
    "hermes not closed between": (HERMES, ONE.replace("</tool_call>", "") + ONE, "", [ROME, ROME]),
    "hermes parameters": (HERMES, ONE.replace("arguments", "parameters"), "", [ROME]),
    "hermes json in json": (
        HERMES,
        '<tool_call>{"name": "weather", "arguments": "{\\"city\\": \\"Rome\\"}"}</tool_call>',
        "",
        [ROME],
    ),
    "coder": (
        HERMES,
        "<tool_call>\n<function=weather>\n<parameter=city>\n12\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
        "</function>\n</tool_call>",
        "",
        [ToolCall("weather", {"city": "12", "days": 3})],
    ),
    "glm": (
        HERMES,
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n<arg_key>days</arg_key>"
        "<arg_value>2</arg_value></tool_call>",
        "",
        [ToolCall("weather", {"city": "Rome", "days": 2})],
    ),
    "glm without": (HERMES, "<tool_call>weather\n</tool_call>", "", [ToolCall("weather")]),
    "no call": (HERMES, "The tag <tool is no call, {} neither.", "The tag <tool is no call, {} neither.", []),
    "mistral": (MISTRAL, '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Rome"}}]', "", [ROME]),
    "mistral two": (
        MISTRAL,
        '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Rome"}},'
        ' {"name": "weather", "arguments": {"city": "Paris"}}]',
        "",
        [ROME, PARIS],
    ),
    "mistral named": (
        MISTRAL,
        '[TOOL_CALLS]weather[CALL_ID]abc123def[ARGS]{"city": "Rome"}[TOOL_CALLS]weather[ARGS]{"city": "Paris"}',
        "",
        [ROME, PARIS],
    ),
    "mistral without": (MISTRAL, '[{"name": "weather"}]', '[{"name": "weather"}]', []),
    "llama": (LLAMA, '{"name": "weather", "parameters": {"city": "Rome"}}', "", [ROME]),
    "llama tag": (LLAMA, '<|python_tag|>{"name": "weather", "parameters": {"city": "Rome"}}', "", [ROME]),
    "llama two": (
        LLAMA,
        '\n{"name": "weather", "parameters": {"city": "Rome"}}; {"name": "weather", "parameters": {"city": "Paris"}}',
        "",
        [ROME, PARIS],
    ),
    "llama json answer": (LLAMA, '{"name": "Bob", "age": 3}', '{"name": "Bob", "age": 3}', []),
    "llama words": (LLAMA, " It is {fine}.", " It is {fine}.", []),
}


def read(style: Style, pieces: list[str]) -> tuple[str, list[ToolCall]]:
    reader = ToolText(style, [TOOL])
    text = "".join(reader.feed(piece) for piece in pieces)
    rest, calls = reader.finish()
    return text + rest, calls


@pytest.mark.parametrize("name", CASES)
@given(data=st.data())
def test_calls_are_read_wherever_a_piece_ends(name: str, data: st.DataObject) -> None:
    style, text, answer, calls = CASES[name]
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert read(style, pieces) == (answer, calls)


def test_words_are_shown_before_the_call_has_come() -> None:
    reader = ToolText(HERMES, [TOOL])
    assert reader.feed("Let me see. <tool") == "Let me see. "
    assert reader.feed("_call>{") == ""


@pytest.mark.parametrize(
    ("style", "text"),
    [
        (HERMES, "<tool_call>{oops}</tool_call>"),
        (HERMES, "<tool_call>weather(city='Rome')</tool_call>"),
        (HERMES, '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>'),
        (HERMES, '<tool_call>{"arguments": {}}</tool_call>'),
        (HERMES, "<tool_call>"),
        (HERMES, "<tool_call><function=weather><parameter=city>Rome</parameter><parameter=days>1"),
        (HERMES, "<tool_call><function=weather><parameter=city>Rome</parameter><param</function></tool_call>"),
        (HERMES, "<tool_call>weather<arg_key>city</arg_key><arg_value>Rome</arg_value><arg_key>days</arg_key><arg_v"),
        (MISTRAL, "[TOOL_CALLS]{oops"),
        (MISTRAL, "[TOOL_CALLS][5]"),
        (LLAMA, "<|python_tag|>print('hi')"),
    ],
)
def test_a_broken_call_is_a_call_with_an_error(style: Style, text: str) -> None:
    answer, [call] = read(style, [text])
    assert answer == ""
    assert call.error.startswith("the call was not understood, for it is no JSON object with a name: ")
    assert call.arguments == {}


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
@given(text=st.text(max_size=60), tail=st.text(max_size=60))
def test_whatever_a_model_writes_is_taken_apart_without_a_word_lost(style: Style, text: str, tail: str) -> None:
    for whole in (text, text + style.markers[0] + tail):
        answer, calls = read(style, list(whole))
        assert calls or answer == whole
        for call in calls:
            assert call.written().encode()


def test_halves_of_characters_do_not_get_through() -> None:
    _, [call] = read(HERMES, ['<tool_call>{"name": "weather", "arguments": {"city": "\\ud800"}}</tool_call>'])
    assert call.arguments == {"city": "?"}


def test_the_way_is_told_by_the_template() -> None:
    assert style_of("… <tool_call></tool_call> …") is HERMES
    assert style_of("… [TOOL_CALLS] …") is MISTRAL
    assert style_of("… <|python_tag|> …") is LLAMA
    assert style_of('Respond in the format {"name": function name, "parameters": …') is LLAMA
    assert style_of("{% for tool in tools %}<tools-begin>") is None
