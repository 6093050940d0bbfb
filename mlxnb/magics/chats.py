"""The running conversations of `--chat`, which grow only by finished answers."""

from __future__ import annotations

from ..request import Message
from ..result import Result


class Chats:
    """Conversations by name. They live as long as the kernel, or until the extension is unloaded."""

    def __init__(self) -> None:
        self._turns: dict[str, tuple[Message, ...]] = {}

    def ask(self, name: str, prompt: str, system: str | None, default: str | None = None) -> tuple[Message, ...]:
        """The conversation so far with `prompt` at its end.

        `system` takes the place of an earlier system message; `default` is only for a conversation without one.
        """
        turns = self._turns.get(name, ())
        if system or (default and not any(turn.role == "system" for turn in turns)):
            rest = (turn for turn in turns if turn.role != "system")
            turns = (Message("system", system or default or ""), *rest)
        return (*turns, Message("user", prompt))

    def answered(self, name: str, asked: tuple[Message, ...], result: Result) -> None:
        """Keep what was asked and its answer. One that was interrupted or empty leaves the conversation as it was."""
        if result.finish_reason != "interrupted" and result.text.strip():
            self._turns[name] = (*asked, Message("assistant", result.text))
