"""A conversation turn by turn, as a value: what was said, what of it the model is still given, and its file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import ConversationError, MlxnbError
from .request import Message
from .tools import ToolCall

KIND, VERSION = "mlxnb conversation", 1
SUMMARY = "[What was said before, in short: {}]\n\n{}"


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was said, in whole turns: a turn is a user's message with all that followed it, up to the next one's.

    The oldest `left_out` turns are kept, and not given to the model any more; where it summarised them, `summary`
    stands for them. `model` answered last.
    """

    messages: tuple[Message, ...] = ()
    left_out: int = 0
    summary: str = ""
    model: str = ""

    @property
    def system(self) -> tuple[Message, ...]:
        """The system message, if there is one."""
        return self.messages[:1] if self.messages and self.messages[0].role == "system" else ()

    @property
    def turns(self) -> list[tuple[Message, ...]]:
        """The messages of each turn."""
        said = self.messages[len(self.system) :]
        begins = [i for i, message in enumerate(said) if message.role == "user"]
        return [said[begin:end] for begin, end in zip(begins, [*begins[1:], len(said)], strict=False)]

    def given(self) -> tuple[Message, ...]:
        """The messages that the model is given."""
        held = [message for turn in self.turns[self.left_out :] for message in turn]
        if self.summary and held:
            held[0] = replace(held[0], content=SUMMARY.format(self.summary, held[0].content))
        return (*self.system, *held)

    def upto(self, turns: int) -> Conversation:
        """It as it was after so many turns.

        Raises:
            ConversationError: it has fewer.
        """
        have = self.turns
        if not 0 <= turns <= len(have):
            raise ConversationError(f"There is no turn {turns}.", f"The conversation has {len(have)}.")
        said = (*self.system, *(message for turn in have[:turns] for message in turn))
        # What was left out was left out for a later turn than one that comes before it.
        keeps = turns > self.left_out
        return replace(
            self, messages=said, left_out=self.left_out if keeps else 0, summary=self.summary if keeps else ""
        )

    def undone(self) -> Conversation:
        """It without its last turn.

        Raises:
            ConversationError: it has none.
        """
        if not self.turns:
            raise ConversationError("There is nothing to undo.", "The conversation has no turn yet.")
        return self.upto(len(self.turns) - 1)

    def asked(self, prompt: str, system: str | None = None, default: str | None = None) -> Conversation:
        """It with a user's message at its end. `system` takes the place of an earlier system message; `default` is only
        for a conversation without one.
        """
        own = self.system
        if system or (default and not own):
            own = (Message("system", system or default or ""),)
        return replace(self, messages=(*own, *self.messages[len(self.system) :], Message("user", prompt)))

    def follows(self, other: Conversation) -> bool:
        """Whether it is another one with a user's message more, see `asked`; the system message may differ."""
        said, before = self.messages[len(self.system) : -1], other.messages[len(other.system) :]
        return said == before and (self.left_out, self.summary) == (other.left_out, other.summary)

    def by(self, model: str) -> Conversation:
        """It, last answered by a model."""
        return replace(self, model=model)

    def grown(self, more: Iterable[Message]) -> Conversation:
        """It with more messages at its end."""
        return replace(self, messages=(*self.messages, *more))


def save(conversation: Conversation, path: str | Path) -> Path:
    """Write a conversation as JSON, aside and then renamed; where it is now.

    Raises:
        ConversationError: the file is something else than a conversation, or cannot be written.
    """
    file = Path(path).expanduser()
    if file.exists():
        try:
            load(file)
        except ConversationError as err:
            raise ConversationError(f"{file} is there, and no conversation.", "Take another name.") from err
    text = json.dumps(_as_json(conversation), ensure_ascii=False, indent=1)
    try:
        handle, aside = tempfile.mkstemp(dir=file.parent, prefix=".conversation-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="surrogatepass") as opened:
                opened.write(text + "\n")
                opened.flush()
                os.fsync(opened.fileno())
            os.replace(aside, file)
        except BaseException:
            os.unlink(aside)
            raise
    except OSError as err:
        raise ConversationError(f"{file} cannot be written: {err.strerror or err}.", "Take another place.") from None
    return file


def load(path: str | Path) -> Conversation:
    """Read a conversation that `save` wrote, checked.

    Raises:
        ConversationError: there is none, it is damaged, or of a version that this one does not read.
    """
    file = Path(path).expanduser()
    try:
        value = json.loads(file.read_text(encoding="utf-8", errors="surrogatepass"))
    except OSError as err:
        raise ConversationError(f"{file} cannot be read: {err.strerror or err}.", "Give the path of a file.") from None
    except (ValueError, RecursionError) as err:
        raise _damaged(file, f"it is no JSON ({err})") from None
    if not isinstance(value, dict) or value.get("kind") != KIND:
        raise ConversationError(f"{file} is no saved conversation.", "`%mlxnb chat NAME save FILE` writes one.")
    if value.get("version") != VERSION:
        version = value.get("version")
        raise ConversationError(f"{file} has the version {version!r}, and {VERSION} is read.", "Update mlxnb.")
    try:
        return _from_json(value)
    except (_Odd, MlxnbError) as err:
        raise _damaged(file, str(err).rstrip(".")) from None


class _Odd(Exception):
    """What is wrong with the content of a file."""


def _damaged(file: Path, why: str) -> ConversationError:
    return ConversationError(f"{file} is damaged: {why}.", "Nothing was loaded; take another copy of it.")


def _as_json(conversation: Conversation) -> dict[str, Any]:
    return {
        "kind": KIND,
        "version": VERSION,
        "model": conversation.model,
        "left_out": conversation.left_out,
        "summary": conversation.summary,
        "messages": [_message_as_json(message) for message in conversation.messages],
    }


def _message_as_json(message: Message) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if message.tool_calls:
        more["tool_calls"] = [
            {"name": call.name, "arguments": dict(call.arguments), "id": call.id} for call in message.tool_calls
        ]
    if message.role == "tool":
        more |= {"name": message.name, "call_id": message.call_id}
    return {"role": message.role, "content": message.content, **more}


def _from_json(value: Mapping[str, Any]) -> Conversation:
    listed = _held(value, "messages", list, "the file")
    messages = tuple(_message_from_json(each, f"message {i}") for i, each in enumerate(listed, 1))
    left_out, summary = _held(value, "left_out", int, "the file"), _held(value, "summary", str, "the file")
    made = Conversation(messages, left_out, summary, _held(value, "model", str, "the file"))
    _check_order(made)
    if not 0 <= left_out <= len(made.turns):
        raise _Odd(f"left_out is {left_out} of {len(made.turns)} turns")
    return made


def _message_from_json(value: Any, where: str) -> Message:
    if not isinstance(value, dict):
        raise _Odd(f"{where} is no object")
    message = Message.of({"role": value.get("role"), "content": value.get("content")})
    calls = tuple(
        ToolCall(_held(call, "name", str, where), _held(call, "arguments", dict, where), _held(call, "id", str, where))
        for call in _held(value, "tool_calls", list, where, [])
    )
    return replace(
        message,
        tool_calls=calls,
        name=_held(value, "name", str, where, ""),
        call_id=_held(value, "call_id", str, where, ""),
    )


def _held(value: Any, name: str, kind: type, where: str, default: Any = None) -> Any:
    if not isinstance(value, dict):
        raise _Odd(f"a part of {where} is no object")
    found = value.get(name, default)
    if not isinstance(found, kind) or isinstance(found, bool):
        raise _Odd(f"{name} of {where} is {found!r}" if name in value else f"{name} of {where} is missing")
    return found


def _check_order(conversation: Conversation) -> None:
    """A system message only at the front, then whole turns, each ended by an answer of the model."""
    said = conversation.messages[len(conversation.system) :]
    if said and said[0].role != "user":
        raise _Odd(f"it begins with a message of the role {said[0].role}")
    if any(message.role == "system" for message in said):
        raise _Odd("a system message stands in the middle")
    for i, turn in enumerate(conversation.turns, 1):
        if len(turn) < 2 or turn[-1].role != "assistant" or turn[-1].tool_calls:
            raise _Odd(f"turn {i} has no answer at its end")
