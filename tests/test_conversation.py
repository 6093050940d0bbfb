"""Conversations as values and as files: whole turns, kept exactly, and a damaged file that says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.conversation import Conversation, load, save
from mlxnb.errors import ConversationError
from mlxnb.request import Message
from mlxnb.tools import ToolCall


def talk(*said: str, system: str = "", **changes: Any) -> Conversation:
    """Questions and answers in turns."""
    roles = ("user", "assistant")
    messages = [Message(roles[i % 2], text) for i, text in enumerate(said)]
    return Conversation((*([Message("system", system)] if system else []), *messages), **changes)


CALLED = Conversation(
    (
        Message("user", "Weather?"),
        Message("assistant", "", (ToolCall("weather", {"city": "Zürich", "days": [1, 2.5, None]}, "call00001"),)),
        Message("tool", "21 °C", name="weather", call_id="call00001"),
        Message("assistant", "It is 21 °C."),
    ),
    model="qwen",
)
THREE = talk("a", "A", "b", "B", "c", "C", system="S")


def contents(conversation: Conversation) -> str:
    return "".join(message.content for message in conversation.given())


def test_turns_are_undone_and_forked_whole() -> None:
    assert len(THREE.turns) == 3
    assert contents(THREE.undone()) == "SaAbB"
    assert contents(THREE.upto(1)) == "SaA"
    assert contents(THREE.upto(0)) == "S"
    assert [len(turn) for turn in CALLED.turns] == [4]
    assert CALLED.undone().messages == ()
    with pytest.raises(ConversationError, match="nothing to undo"):
        talk().undone()
    for turn in (-1, 4):
        with pytest.raises(ConversationError, match=f"no turn {turn}. The conversation has 3."):
            THREE.upto(turn)


def test_what_was_left_out_stays_and_is_not_given() -> None:
    short = talk("a", "A", "b", "B", "c", "C", system="S", left_out=2)
    assert contents(short) == "ScC"
    assert len(short.turns) == 3
    summed = talk("a", "A", "b", "B", left_out=1, summary="they met")
    given_now = summed.given()
    assert given_now[0] == Message("user", "[What was said before, in short: they met]\n\nb")
    assert summed.messages[2].content == "b"
    assert contents(short.upto(3)) == "ScC"
    assert contents(short.undone()) == "SaAbB"  # what was left out was left out for the third turn
    assert summed.upto(1).summary == ""


def test_a_system_message_is_replaced_and_a_default_is_not() -> None:
    assert contents(THREE.asked("d", "T")) == "TaAbBcCd"
    assert contents(THREE.asked("d", None, "T")) == "SaAbBcCd"
    assert contents(talk("a", "A").asked("d", None, "T")) == "TaAd"


@pytest.mark.parametrize("held", [THREE, CALLED, talk(), talk("a", "A", left_out=1, summary="s", model="m")])
def test_a_file_holds_all_of_it(held: Conversation, tmp_path: Path) -> None:
    file = save(held, tmp_path / "talk.json")
    assert load(file) == held
    assert save(held.asked("more").grown([Message("assistant", "yes")]), file) == file  # one of ours is replaced
    assert len(load(file).turns) == len(held.turns) + 1
    assert [each.name for each in tmp_path.iterdir()] == ["talk.json"]


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=3), st.text(max_size=5), st.data())
def test_every_conversation_comes_back(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[str, str]], system: str, data: st.DataObject
) -> None:
    held = talk(*(text for turn in turns for text in turn), system=system)
    held = Conversation(held.messages, data.draw(st.integers(0, len(turns))), system, "m")
    file = tmp_path_factory.getbasetemp() / "every.json"
    assert load(save(held, file)) == held


def damaged(**changes: Any) -> str:
    whole = {"kind": "mlxnb conversation", "version": 1, "model": "m", "left_out": 0, "summary": "", "messages": []}
    return json.dumps({**whole, **changes})


USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is damaged: it is no JSON"),
        ('{"kind": "mlxnb conv', "is damaged: it is no JSON"),
        ("[" * 100_000, "is damaged: it is no JSON"),
        ("[]", "is no saved conversation"),
        ('{"kind": "other"}', "is no saved conversation"),
        (damaged(version=2), "has the version 2, and 1 is read. Update mlxnb."),
        (damaged(version=None), "has the version None"),
        (damaged(messages={}), "messages of the file is {}"),
        (damaged(messages=["a"]), "message 1 is no object"),
        (damaged(messages=[{"role": "user"}]), "content is a NoneType, not a string"),
        (damaged(messages=[{"role": "boss", "content": "x"}]), "the role 'boss'"),
        (damaged(messages=[ANSWER]), "it begins with a message of the role assistant"),
        (damaged(messages=[USER]), "turn 1 has no answer at its end"),
        (damaged(messages=[USER, ANSWER, {"role": "system", "content": "x"}]), "a system message stands in the middle"),
        (damaged(messages=[USER, {**ANSWER, "tool_calls": [5]}]), "a part of message 2 is no object"),
        (damaged(messages=[USER, {**ANSWER, "tool_calls": [{"name": "x"}]}]), "arguments of message 2 is missing"),
        (damaged(messages=[USER, ANSWER], left_out=2), "left_out is 2 of 1 turns"),
        (damaged(left_out=True), "left_out of the file is True"),
        (damaged(summary=None), "summary of the file is None"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    file.write_text(text)
    with pytest.raises(ConversationError) as caught:
        load(file)
    assert says in str(caught.value)
    assert str(file) in str(caught.value)
    if "no saved conversation" in says or "damaged" in says:
        with pytest.raises(ConversationError, match="is there, and no conversation"):
            save(THREE, file)
        assert file.read_text() == text


def test_bytes_and_folders_and_nothing_are_clear_errors(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe{}")
    for name, says in (("bytes", "damaged"), ("gone", "No such file"), (".", "cannot be read")):
        with pytest.raises(ConversationError, match=says):
            load(tmp_path / name)
    with pytest.raises(ConversationError, match="cannot be written"):
        save(THREE, tmp_path / "no" / "folder.json")


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(THREE, tmp_path / "talk.json")

    def fail(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(ConversationError, match="No space left"):
        save(CALLED, file)
    assert load(file) == THREE
    assert [each.name for each in tmp_path.iterdir()] == ["talk.json"]
