"""Conversations and tools in a real shell, over a scripted backend."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
from mlxnb.errors import ConversationError, EmptyPromptError, GenerationError, OptionError, PromptError
from tests.magics.test_generate import value
from tests.scripted import ScriptedBackend

pytestmark = pytest.mark.usefixtures("script")

ROME = '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>'
FUNCTIONS = """
ran = []
def weather(city: str) -> str:
    "Tell the weather of a city."
    ran.append(city)
    return "21 °C in " + city
def fails(city: str) -> str:
    raise LookupError("no " + city)
number = 5
"""


@pytest.fixture
def functions(shell: InteractiveShell) -> None:
    value(shell, FUNCTIONS)


def answered(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Have a person at hand who answers so; what they are asked."""
    asked: list[str] = []
    left = list(answers)

    def ask(question: str = "") -> str:
        asked.append(question)
        return left.pop(0)

    monkeypatch.setattr("builtins.input", ask)
    return asked


def test_conversations_are_listed_shown_and_changed(
    shell: InteractiveShell, script: ScriptedBackend, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    value(shell, "%mlxnb chats")
    assert "none yet: %%generate --chat NAME begins one" in capsys.readouterr().out
    script.answers = [["**One**."], ["Two."], ["Three."]]
    value(shell, "%%generate --chat trip --system Brief.\nfirst question")
    value(shell, "%generate --chat=trip second question")
    capsys.readouterr()
    value(shell, "%mlxnb chats")
    shown = capsys.readouterr().out
    assert re.search(r"trip +2 +– +11 +pocket model +second question", shown), shown
    value(shell, "%mlxnb chat trip")
    shown = capsys.readouterr().out
    assert "trip, 2 turns\n\nsystem\nBrief.\n\n1 · user\nfirst question\n\n1 · assistant\n**One**.\n\n2 · user" in shown
    value(shell, "%mlxnb chat trip fork other --turn 1")
    assert re.search(r"other +● forked from trip +1 turn$", capsys.readouterr().out.strip())
    value(shell, f"%mlxnb chat trip save {tmp_path / 'trip.json'}")
    assert json.loads((tmp_path / "trip.json").read_text())["version"] == 1
    value(shell, "%mlxnb chat trip undo")
    value(shell, "%generate --chat=trip third question")
    assert [m.content for m in script.requests[-1].messages] == [
        "Brief.",
        "first question",
        "**One**.",
        "third question",
    ]
    value(shell, f"%mlxnb chat saved load {tmp_path / 'trip.json'}")
    assert list(mlxnb.engine().chats) == ["trip", "other", "saved"]
    value(shell, "%mlxnb chat other clear")
    capsys.readouterr()
    value(shell, "%mlxnb chats")
    assert "other" not in capsys.readouterr().out
    # what Python asks in a conversation of this name goes on with it
    assert mlxnb.engine().chats["saved"].ask("and now?", backend="scripted").text == "Three."
    assert len(mlxnb.engine().chats["saved"]) == 3


def test_a_turn_without_an_answer_says_that_it_is_not_kept(
    shell: InteractiveShell, script: ScriptedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a model that used up its tokens in thinking: what it would go on from is not what the cell shows."""
    script.thinking, script.pieces = ["Hm, ", "well."], [" "]
    value(shell, "%generate --chat=thought Hi")
    assert capsys.readouterr().out.rstrip().endswith("· no turn")
    value(shell, "%generate --chat=thought --quiet --into thought Hi")
    [note] = shell.user_ns["thought"].provenance.notes
    assert note.endswith("without this turn: all of it is thinking: take a larger max_tokens, or think N")
    assert "thought" not in list(mlxnb.engine().chats)
    script.pieces = ["Hello."]
    value(shell, "%generate --chat=thought Hi")
    assert "no turn" not in capsys.readouterr().out
    assert len(mlxnb.chat("thought")) == 1


def test_what_was_said_is_no_code_in_the_page(shell: InteractiveShell, script: ScriptedBackend) -> None:
    from mlxnb.render.chats import WholeChat

    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>\x1b[31m"
    script.pieces = [hostile]
    chat = mlxnb.engine().chats.open(hostile)
    chat.ask(hostile, system=hostile)
    bundle = WholeChat(chat)._repr_mimebundle_()
    assert "<img" not in bundle["text/html"]
    assert "<script" not in bundle["text/html"]
    assert "\x1b" not in bundle["text/html"] + bundle["text/plain"]
    value(shell, "%mlxnb chats")


@pytest.mark.parametrize(
    ("line", "kind", "says"),
    [
        ("chat", OptionError, "%mlxnb chat needs a conversation's name."),
        ("chat nobody", ConversationError, "There is no conversation 'nobody'. There are trip."),
        ("chat trp undo", ConversationError, "Did you mean trip?"),
        ("chat trip undoo", OptionError, "Unknown chat command undoo. Did you mean undo?"),
        ("chat trip undo it", OptionError, "%mlxnb chat NAME undo takes no 'it'."),
        ("chat trip fork", OptionError, "%mlxnb chat NAME fork needs a new name."),
        ("chat trip save", OptionError, "%mlxnb chat NAME save needs a file."),
        ("chat trip fork other --turn x", OptionError, "turn is 'x'."),
        ("chat trip fork other --turn 9", ConversationError, "There is no turn 9. The conversation has 1."),
        ("chat trip fork trip", ConversationError, "There is a conversation 'trip'."),
        ("chat trip undo --turn 1", OptionError, "--turn says nothing to chat NAME undo."),
        ("chat trip load nowhere.json", ConversationError, "nowhere.json cannot be read: No such file"),
        ("chat trip fork a b", OptionError, "'b' is one word too many."),
        ("chats trip", OptionError, "%mlxnb chats takes no name."),
        ("ps --turn 1", OptionError, "--turn says nothing to ps."),
    ],
)
def test_mistakes_are_one_clear_line(shell: InteractiveShell, line: str, kind: type[Exception], says: str) -> None:
    value(shell, "%generate --chat=trip Hi")
    with pytest.raises(kind) as caught:
        value(shell, f"%mlxnb {line}")
    assert says in str(caught.value)
    assert len(mlxnb.engine().chats["trip"]) == 1


@pytest.mark.usefixtures("functions")
def test_a_call_is_shown_asked_for_and_run(
    shell: InteractiveShell,
    script: ScriptedBackend,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script.answers = [["Let me see. ", ROME, ROME.replace("Rome", "Oslo")], [ROME], ["It is fine."]]
    asked = answered(monkeypatch, "y")
    result = value(shell, "%generate --tool weather --chat=trip Weather?")
    assert asked == ['The model wants to call weather(city="Rome"). Run it? [y/N] ']  # once for a function
    assert shell.user_ns["ran"] == ["Rome", "Oslo", "Rome"]
    assert [call.output for call in result.tool_calls] == ["21 °C in Rome", "21 °C in Oslo", "21 °C in Rome"]
    shown = capsys.readouterr().out
    for text in ("Let me see.", 'running weather(city="Rome")', 'weather(city="Oslo") → 21 °C in Oslo', "It is fine."):
        assert text in shown
    assert "3 tool calls" in shown
    assert "4 tokens in 2 generations before" in shown
    assert shell.user_ns["_"] is result
    value(shell, "%mlxnb chat trip")
    shown = capsys.readouterr().out
    assert 'calls weather(city="Rome")' in shown
    assert "1 · tool weather\n21 °C in Rome" in shown


@pytest.mark.usefixtures("functions")
def test_a_turn_with_tools_is_asked_once_and_not_again(
    shell: InteractiveShell, script: ScriptedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    script.answers = [[ROME], [ROME], ["It is fine."]]
    value(shell, "%generate --tool weather --allow weather Weather?")
    capsys.readouterr()
    value(shell, "%mlxnb history")
    shown = capsys.readouterr().out
    assert "Weather?" in shown
    assert "21 °C" not in shown
    with pytest.raises(OptionError, match="offered tools, which --last does not do again"):
        value(shell, "%generate --last")
    script.answers = [["Hello."]]
    value(shell, "%generate Hi")
    assert value(shell, "%generate --last").text == "Hello."


@pytest.mark.usefixtures("functions")
def test_no_is_told_to_the_model(
    shell: InteractiveShell, script: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.answers = [[ROME], ["A pity."]]
    answered(monkeypatch, "")
    result = value(shell, "%generate --tool weather Weather?")
    assert (result.text, shell.user_ns["ran"]) == ("A pity.", [])
    assert result.tool_calls[0].error == "the user did not allow this call"


@pytest.mark.usefixtures("functions")
def test_what_is_allowed_on_the_line_is_not_asked_for(
    shell: InteractiveShell,
    script: ScriptedBackend,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = answered(monkeypatch)
    script.answers = [[ROME.replace("weather", "fails")], ["Sorry."], [ROME], ["Fine."]]
    line = "--tool weather --tool fails --allow weather --allow fails"
    result = value(shell, f"%generate {line} Weather?")
    assert result.tool_calls[0].error == "LookupError: no Rome"
    assert 'fails(city="Rome") → Error: LookupError: no Rome' in capsys.readouterr().out
    result = value(shell, f"%generate {line} --quiet --into r Weather?")
    assert capsys.readouterr().out == ""
    assert shell.user_ns["r"] is result
    assert result.text == "Fine."
    assert asked == []
    assert list(mlxnb.engine().chats) == []  # without a name nothing is kept


@pytest.mark.usefixtures("functions")
def test_a_function_may_be_offered_by_another_name_than_its_own(
    shell: InteractiveShell, script: ScriptedBackend
) -> None:
    value(shell, "forecast = weather")
    script.answers = [[ROME], ["Fine."]]
    result = value(shell, "%generate --tool forecast --allow forecast Weather?")
    assert (result.text, len(shell.user_ns["ran"])) == ("Fine.", 1)
    assert [tool.name for tool in script.requests[0].tools] == ["weather"]


@pytest.mark.usefixtures("functions")
def test_where_nobody_can_be_asked_the_cell_says_what_to_pass(shell: InteractiveShell, script: ScriptedBackend) -> None:
    script.answers = [[ROME]]
    with pytest.raises(OptionError) as caught:  # pytest gives no stdin to read
        value(shell, "%generate --tool weather Weather?")
    assert str(caught.value) == (
        'The model wants to call weather(city="Rome"), which was not allowed. '
        "Nobody can be asked here: pass --allow weather."
    )
    assert shell.user_ns["ran"] == []


@pytest.mark.usefixtures("functions")
def test_rounds_end_in_the_cell_too(shell: InteractiveShell, script: ScriptedBackend) -> None:
    script.pieces = [ROME]
    with pytest.raises(GenerationError, match="called tools for 2 rounds"):
        value(shell, "%generate --tool weather --allow weather --rounds 2 Weather?")
    assert len(shell.user_ns["ran"]) == 2


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize(
    ("line", "kind", "says"),
    [
        ("--tool wether Hi", OptionError, "There is no function wether in this notebook. Did you mean weather?"),
        ("--tool number Hi", OptionError, "number is a int. A tool is a function"),
        ("--tool zzz Hi", OptionError, "Define it in a cell above."),
        ("--tool weather --raw Hi", PromptError, "Tools need the chat template. Leave out either `raw` or `tools`."),
        ("--tool weather", EmptyPromptError, "There is no prompt."),
        ("--tool weather --rounds 0 Hi", OptionError, "rounds is 0. It takes a whole number from 1 to 100."),
        ("--tool weather --rounds few Hi", OptionError, "rounds is 'few'."),
        ("--rounds 2 Hi", OptionError, "--rounds says nothing without a tool."),
        ("--allow weather Hi", OptionError, "weather is allowed, and is no tool here. Offer it too: --tool weather."),
        ("--chat= Hi", OptionError, "--chat is ''. It takes a conversation's name, such as trip."),
        ("--chat='{{ \" \" }}' Hi", OptionError, "--chat is ' '."),
        ("--overflow drop Hi", OptionError, "--overflow says nothing without a conversation."),
        ("--chat --overflow cut Hi", OptionError, "overflow is 'cut'. It takes error, drop, summarise."),
    ],
)
def test_wrong_options_are_one_clear_line(
    shell: InteractiveShell, script: ScriptedBackend, line: str, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind) as caught:
        value(shell, f"%generate {line}")
    assert says in str(caught.value)
    assert script.requests == []


def test_the_pocket_model_has_no_place_for_tools(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    monkeypatch.setattr(mlxnb, "engine", lambda: engine)
    value(shell, FUNCTIONS)
    with pytest.raises(OptionError, match="The chat template of pocket has no place for tools"):
        value(shell, "%generate --backend torch --tool weather Hi")
