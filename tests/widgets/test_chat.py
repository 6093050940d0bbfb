"""The chat panel: its conversations are the engine's, and only whole answers are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from ipywidgets.widgets.widget import _instances as held

import mlxnb
from mlxnb.conversation import Conversation
from mlxnb.request import Message
from mlxnb.runtime import Engine
from mlxnb.tools import ToolCall
from tests.magics.conftest import shell
from tests.scripted import ScriptedBackend

from .conftest import until

__all__ = ["shell"]


def say(chat: Any, text: str) -> None:
    chat.prompt.value = text
    chat.send.click()
    until(lambda: not chat.running)


def press(chat: Any, turn: int, label: str) -> None:
    next(button for button in chat.turns.views[turn].buttons if button.description.startswith(label)).click()


def questions(chat: Any) -> list[str]:
    return [view.turn[0].content for view in chat.turns.views]


def test_turns_are_those_of_the_conversation_of_that_name(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    chat = panel("chat")
    say(chat, "One")
    say(chat, "Two")
    assert questions(chat) == ["One", "Two"]
    assert chat.prompt.value == chat._asked.value == ""
    assert len(mlxnb.engine().chats["chat"]) == 2
    assert [m.content for m in script.requests[-1].messages] == ["One", "Hello, world.", "Two"]
    mlxnb.chat("chat").ask("Three", backend="scripted")
    until(lambda: questions(chat) == ["One", "Two", "Three"])
    assert "Hello, world." in repr(chat)


def test_editing_asks_again_from_there_and_forgets_what_followed(
    panel: Callable[[str], Any], script: ScriptedBackend
) -> None:
    chat = panel("chat")
    for text in ("One", "Two", "Three"):
        say(chat, text)
    press(chat, 1, "Edit")
    assert chat.prompt.value == "Two"
    assert len(chat.chat) == 3
    say(chat, "Two, rather")
    assert questions(chat) == ["One", "Two, rather"]
    assert [m.content for m in script.requests[-1].messages] == ["One", "Hello, world.", "Two, rather"]


def test_a_stopped_answer_is_shown_and_not_kept(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    chat = panel("chat")
    say(chat, "One")
    script.answers, script.pieces, script.delay = [[" word"] * 5000], [" word"] * 5000, 0.005
    chat.form.max_tokens.value = 5000
    press(chat, 0, "Edit")
    chat.send.click()
    until(lambda: "word" in chat.answer.view.value)
    chat.stop.click()
    until(lambda: not chat.running)
    assert questions(chat) == ["One"]
    assert chat.prompt.value == "One"
    assert "The conversation is as it was" in chat._notice.value
    assert "word" in chat.answer.view.value


def test_fork_undo_and_export(
    panel: Callable[[str], Any], script: ScriptedBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chat = panel("chat")
    say(chat, "One")
    say(chat, "Two")
    press(chat, 0, "Fork")
    assert chat.name.value == "chat-2"
    assert questions(chat) == ["One"]
    chat.undo.click()
    assert questions(chat) == []
    chat.undo.click()
    assert "There is nothing to undo" in chat._notice.value
    chat.name.value = "chat"
    assert questions(chat) == ["One", "Two"]
    chat.export.click()
    assert json.loads((tmp_path / "chat.json").read_text())["messages"][0]["content"] == "One"


def test_what_fails_leaves_the_conversation_and_the_question(
    panel: Callable[[str], Any], script: ScriptedBackend
) -> None:
    chat = panel("chat")
    say(chat, "One")
    script.fails["stream"] = lambda: RuntimeError("the driver is gone")
    say(chat, "Two")
    assert questions(chat) == ["One"]
    assert chat.prompt.value == "Two"
    assert 'role="alert"' in chat._notice.value


def test_what_is_said_is_text(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    script.pieces = ["<script>alert(1)</script>"]
    chat = panel("chat")
    say(chat, "<img src=x onerror=alert(2)>")
    seen = chat.turns.views[0].view.children[0].value + chat.picture()[0]
    assert "<img" not in seen
    assert "<script" not in seen


def test_what_is_forgotten_can_be_brought_back(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    chat = panel("chat")
    for text in ("One", "Two", "Three"):
        say(chat, text)
    assert chat.bring_back.disabled
    chat.undo.click()
    assert questions(chat) == ["One", "Two"]
    chat.bring_back.click()
    assert questions(chat) == ["One", "Two", "Three"]
    press(chat, 0, "Ask again")
    until(lambda: not chat.running)
    assert questions(chat) == ["One"]
    chat.bring_back.click()
    assert questions(chat) == ["One", "Two", "Three"]
    chat.delete.click()
    assert questions(chat) == []
    assert "Nothing was said yet" in chat.answer.view.value
    assert "chat" not in list(mlxnb.engine().chats)
    chat.bring_back.click()
    assert questions(chat) == ["One", "Two", "Three"]


def test_an_edit_can_be_left_and_what_was_being_written_is_still_there(
    panel: Callable[[str], Any], script: ScriptedBackend
) -> None:
    chat = panel("chat")
    say(chat, "One")
    chat.prompt.value = "half a thou"
    press(chat, 0, "Edit")
    assert (chat.prompt.value, chat.leave_edit.layout.display) == ("One", None)
    press(chat, 0, "Edit")  # once more keeps it too
    chat.leave_edit.click()
    assert (chat.prompt.value, chat.leave_edit.layout.display) == ("half a thou", "none")
    press(chat, 0, "Edit")
    chat.send.click()
    until(lambda: not chat.running)
    assert (questions(chat), chat.prompt.value) == (["One"], "half a thou")


def test_what_is_written_while_it_answers_stays(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    script.delay = 0.05
    chat = panel("chat")
    chat.prompt.value = "One"
    chat.send.click()
    chat.prompt.value = "Next, I"
    until(lambda: not chat.running)
    assert (questions(chat), chat.prompt.value) == (["One"], "Next, I")
    script.fails["stream"] = lambda: RuntimeError("the driver is gone")
    chat.send.click()
    chat.prompt.value = "Meanwhile"
    until(lambda: not chat.running)
    assert chat.prompt.value == "Meanwhile"
    assert "Next, I" in chat._asked.value


def stopped(chat: Any, script: ScriptedBackend, text: str) -> None:
    script.answers, script.pieces, script.delay = [], [" word"] * 5000, 0.005
    chat.form.max_tokens.value = 5000
    chat.prompt.value = text
    chat.send.click()
    until(lambda: "word" in chat.answer.view.value)
    chat.stop.click()
    until(lambda: not chat.running)
    script.pieces, script.delay = ["the rest"], 0.0


def test_a_stopped_answer_can_be_kept(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    chat = panel("chat")
    say(chat, "One")
    assert (chat.keep.layout.display, chat.go_on.layout.display) == ("none", "none")
    stopped(chat, script, "Two")
    assert (chat.keep.layout.display, chat.go_on.layout.display) == (None, None)
    chat.keep.click()
    assert questions(chat) == ["One", "Two"]
    assert "word" in chat.chat.conversation.turns[1][-1].content
    assert "interrupted" in chat.turns.views[1].view.children[0].value
    assert (chat.prompt.value, chat._asked.value, chat.keep.layout.display) == ("", "", "none")


def test_a_stopped_answer_can_be_gone_on_from(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    chat = panel("chat")
    say(chat, "One")
    stopped(chat, script, "Two")
    chat.go_on.click()
    until(lambda: not chat.running)
    assert questions(chat) == ["One", "Two", "Go on."]
    given = [message.content for message in script.requests[-1].messages]
    assert given[2] == "Two"
    assert given[3].count("word") > 0
    assert given[4] == "Go on."


def test_a_stopped_answer_is_not_kept_over_what_a_cell_said_meanwhile(
    panel: Callable[[str], Any], script: ScriptedBackend
) -> None:
    chat = panel("chat")
    say(chat, "One")
    stopped(chat, script, "Two")
    mlxnb.chat("chat").ask("Elsewhere", backend="scripted")
    chat.keep.click()
    assert "has changed meanwhile" in chat._notice.value
    assert len(chat.chat) == 2


def test_an_answer_that_was_cut_offers_to_go_on(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    chat = panel("chat")
    chat.form.max_tokens.value = 2
    say(chat, "One")
    assert chat.go_on.layout.display is None
    chat.form.max_tokens.value = 200
    chat.prompt.value = "for later"
    chat.go_on.click()
    until(lambda: not chat.running)
    assert (questions(chat), chat.prompt.value) == (["One", "Go on."], "for later")
    assert chat.go_on.layout.display == "none"


def test_thinking_is_folded_and_an_answer_that_is_all_thinking_is_no_turn(
    panel: Callable[[str], Any], script: ScriptedBackend
) -> None:
    script.thinking = ["let me <b>see</b>"]
    chat = panel("chat")
    say(chat, "One")
    shown = chat.turns.views[0].view.children[0].value
    assert '<details class="mlxnb-thought">' in shown
    assert "<b>see" not in shown
    script.pieces = []
    say(chat, "Two")
    assert questions(chat) == ["One"]
    assert chat.prompt.value == "Two"
    assert "no answer that the conversation could go on from" in chat._notice.value
    assert "all of it is thinking" in chat.answer.view.value


def test_stop_reaches_a_turn_that_has_no_answer_yet(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    chat, engine, busy, let = panel("chat"), mlxnb.engine(), Event(), Event()
    waiting = Thread(target=lambda: engine.call(lambda: busy.set() or let.wait(60)))
    waiting.start()
    assert busy.wait(60)
    chat.prompt.value = "One"
    chat.send.click()
    chat.stop.click()
    let.set()
    until(lambda: not chat.running)
    waiting.join()
    assert questions(chat) == []
    assert "Stopped before there was an answer" in chat._notice.value


def test_a_name_that_is_none_is_refused_and_the_panel_goes_on(
    panel: Callable[[str], Any], script: ScriptedBackend
) -> None:
    chat = panel("chat")
    say(chat, "One")
    chat.name.value = "  "
    assert "name is empty" in chat._notice.value
    assert (chat.name.value, questions(chat)) == ("chat", ["One"])
    chat.name.value = "trip"
    assert questions(chat) == []


def test_an_export_takes_no_other_conversation_s_file(
    panel: Callable[[str], Any], script: ScriptedBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chat = panel("chat")
    chat.export.click()
    assert "nothing in chat to export" in chat._notice.value
    for name in ("a b", "a-b"):
        chat.name.value = name
        say(chat, f"I am {name}")
        chat.export.click()
    say(chat, "More")
    chat.export.click()
    saved = {path.name: json.loads(path.read_text())["messages"] for path in tmp_path.glob("*.json")}
    assert {name: (held[0]["content"], len(held)) for name, held in saved.items()} == {
        "a-b.json": ("I am a b", 2),
        "a-b-2.json": ("I am a-b", 4),
    }
    assert mlxnb.engine().chats.load("again", "a-b-2.json").conversation == chat.chat.conversation


def test_of_a_long_conversation_the_last_turns_are_shown_until_all_are_asked_for(
    panel: Callable[[str], Any], script: ScriptedBackend
) -> None:
    messages = [Message(role, f"{i}") for i in range(30) for role in ("user", "assistant")]
    mlxnb.engine().chats.add("long", Conversation(tuple(messages), left_out=12))
    chat = panel("chat")
    chat.name.value = "long"
    assert questions(chat) == [str(i) for i in range(10, 30)]
    assert chat.turns.earlier.description == "Show 10 earlier turns"
    assert "no longer given this turn" in chat.turns.views[1].view.children[0].value
    assert "no longer given this turn" not in chat.turns.views[2].view.children[0].value
    press(chat, 0, "Fork")  # numbers are the conversation's
    assert len(chat.chat) == 11
    chat.name.value = "long"
    chat.turns.earlier.click()
    assert len(questions(chat)) == 30
    assert chat.turns.earlier.layout.display == "none"


def test_the_conversation_s_own_system_message_stays(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    mlxnb.chat("chat").ask("One", system="Be <b>brief</b>.", backend="scripted")
    chat = panel("chat")
    assert "Be &lt;b&gt;brief" in chat.turns.system.value
    say(chat, "Two")
    assert script.requests[-1].messages[0].content == "Be <b>brief</b>."
    chat.form.system.value = "Be long."
    say(chat, "Three")
    assert script.requests[-1].messages[0].content == "Be long."


def test_what_cannot_be_drawn_leaves_no_panel_waiting(
    panel: Callable[[str], Any], script: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = panel("chat")
    monkeypatch.setattr(chat.answer, "look", lambda: 1 / 0)
    say(chat, "One")
    assert "division by zero" in chat._notice.value
    assert not chat.send.disabled


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A real engine, which keeps KV states."""
    made = Engine()
    monkeypatch.setattr(mlxnb, "engine", lambda: made)
    monkeypatch.setenv("MLXNB_BACKEND", "torch")
    yield made
    made.close()


def test_asking_again_from_a_turn_reuses_what_comes_before_it(panel: Callable[[str], Any], real: Engine) -> None:
    chat = panel("chat")
    for text in ("What is zip?", "What does collections.Counter do?", "What is enumerate?"):
        say(chat, text)
    press(chat, 1, "Edit")
    say(chat, "What does itertools.chain do?")
    assert questions(chat) == ["What is zip?", "What does itertools.chain do?"]
    result = chat.turns.result(chat.chat.conversation.turns[1])
    reused, whole = result.provenance.reused_tokens, result.provenance.prompt_tokens
    first = chat.turns.result(chat.chat.conversation.turns[0])
    assert first.timings.prompt_tokens + first.generation_tokens <= reused + 4 < whole
    assert f"reused {reused} of {whole}" in chat.turns.views[1].view.children[0].value


def test_a_conversation_at_its_context_s_end_says_what_to_do_and_goes_on_when_that_is_done(
    panel: Callable[[str], Any], real: Engine
) -> None:
    long = "What is zip? " * 120
    chat = panel("chat")
    for text in (f"One {long}", f"Two {long}"):
        say(chat, text)
    assert "When full" in chat._notice.value
    assert "--overflow" not in chat._notice.value
    assert chat.prompt.value.startswith("Two")
    chat.overflow.value = "drop"
    chat.send.click()
    until(lambda: not chat.running)
    assert len(questions(chat)) == 2
    assert "no longer given this turn" in chat.turns.views[0].view.children[0].value
    assert "1 turn left out" in chat.turns.views[1].view.children[0].value


def test_closing_ends_the_turn_and_every_widget(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    before = set(held)
    script.pieces, script.delay = [" word"] * 5000, 0.005
    chat = panel("chat")
    chat.form.max_tokens.value = 5000
    chat.prompt.value = "Talk"
    chat.send.click()
    until(lambda: "word" in chat.answer.view.value)
    chat.close()
    until(lambda: not chat._thread.is_alive())
    assert set(held) <= before
    chat.send.click()
    chat.close()
    assert list(mlxnb.engine().chats) == []


def test_a_turn_with_tools_shows_its_calls_as_text_and_is_gone_on_from(
    panel: Callable[[str], Any], script: ScriptedBackend
) -> None:
    call = ToolCall("weather", {"city": "<b>Rome</b>"}, "c1")
    turn = (
        Message("user", "How warm is it?"),
        Message("assistant", "", (call,)),
        Message("tool", "<script>21</script>", name="weather", call_id="c1"),
        Message("assistant", "21 degrees."),
    )
    mlxnb.engine().chats.add("warm", Conversation(turn))
    chat = panel("chat")
    chat.name.value = "warm"
    shown = chat.turns.views[0].view.children[0].value
    assert "weather" in shown
    assert "21 degrees." in shown
    assert "<b>Rome" not in shown
    assert "<script" not in shown
    say(chat, "And tomorrow?")
    assert script.requests[-1].messages[:4] == turn
    assert questions(chat) == ["How warm is it?", "And tomorrow?"]


CALLS = ['<tool_call>{"name": "weather", "arguments": {"city": "<b>Rome</b>"}}</tool_call>']


@pytest.fixture
def asked_to_call(
    panel: Callable[[str], Any], shell: InteractiveShell, script: ScriptedBackend
) -> tuple[Any, list[str]]:
    """A chat panel whose model wants to call a function, and the cities that it was called with."""
    cities: list[str] = []

    def weather(city: str) -> str:
        """Tell the weather of a city."""
        cities.append(city)
        return "21 degrees"

    shell.push({"weather": weather, "number": 3})
    script.answers = [CALLS, ["It is 21 degrees."]]
    chat = panel("chat")
    chat.tools.names.value = "weather"
    chat.prompt.value = "How warm is Rome?"
    chat.send.click()
    until(lambda: chat.tools._asking.layout.display is None)
    assert "weather(city=&quot;&lt;b&gt;Rome" in chat.tools._question.value
    assert cities == []
    return chat, cities


def test_a_function_runs_when_that_is_allowed(asked_to_call: tuple[Any, list[str]]) -> None:
    chat, cities = asked_to_call
    chat.tools.allow.click()
    until(lambda: not chat.running)
    assert cities == ["<b>Rome</b>"]
    roles = [message.role for message in chat.chat.conversation.messages]
    assert roles == ["user", "assistant", "tool", "assistant"]
    assert "1 tool call" in chat.turns.views[0].view.children[0].value
    assert chat.tools._asking.layout.display == "none"


def test_a_function_that_is_refused_does_not_run(asked_to_call: tuple[Any, list[str]]) -> None:
    chat, cities = asked_to_call
    chat.tools.refuse.click()
    until(lambda: not chat.running)
    assert cities == []
    assert "did not allow this call" in chat.chat.conversation.messages[2].content


@pytest.mark.parametrize("how", ["stop", "close"])
def test_stop_and_close_refuse_what_is_asked(asked_to_call: tuple[Any, list[str]], how: str) -> None:
    chat, cities = asked_to_call
    thread = chat._thread
    chat.stop.click() if how == "stop" else chat.close()
    until(lambda: not thread.is_alive())
    assert (cities, len(mlxnb.engine().chats)) == ([], 0)


@pytest.mark.parametrize(
    ("names", "said"), [("wether", "Did you mean weather?"), ("number", "number is a int"), ("zzz", "no function zzz")]
)
def test_a_name_that_is_no_function_is_told(
    panel: Callable[[str], Any], shell: InteractiveShell, script: ScriptedBackend, names: str, said: str
) -> None:
    shell.push({"weather": lambda: "", "number": 3})
    chat = panel("chat")
    chat.tools.names.value = names
    say(chat, "How warm is it?")
    assert said in chat._notice.value
    assert (chat.prompt.value, script.requests) == ("How warm is it?", [])
