"""The chat panel: its conversations are the engine's, and only whole answers are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlxnb
from tests.scripted import ScriptedBackend

from .conftest import until
from .test_playground import script

__all__ = ["script"]


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
