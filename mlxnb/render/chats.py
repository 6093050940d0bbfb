"""Conversations: a table of all of them, and one of them turn by turn."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..request import Message
from . import style
from .cells import Cell
from .footer import model_label
from .markdown import to_html
from .math import LEFT_ALONE
from .numbers import plural
from .table import Table
from .text import one_row, plain

if TYPE_CHECKING:
    from ..runtime.chats import Chat, Chats

SHORT = 60  # characters of a question in the table
CALLED = 300  # characters of a call, or of what came back
CSS = """
.mlxnb .mlxnb-turn{margin:8px 0 0}
.mlxnb .mlxnb-turn>.mlxnb-footer{border-top:1px solid var(--border);padding-top:4px}
"""


def chats_table(chats: Chats) -> Table:
    """Every conversation that has begun."""
    rows = [_row(chats[name]) for name in chats]
    if not rows:
        return Table(["conversations"], [["none yet: %%generate --chat NAME begins one"]])
    columns = ("conversation", "turns", "left out", ("last turn", "tokens"), "model", "last question")
    return Table(columns, rows, bold="conversation")


def chat_table(row: tuple[Cell, ...]) -> Table:
    """What was done with a conversation."""
    return Table(("conversation", "what", "length"), [row], bold="conversation")


def _row(chat: Chat) -> tuple[Cell, ...]:
    talk, last = chat.conversation, chat.last
    tokens = last.timings.prompt_tokens + last.generation_tokens if last is not None else None
    asked = one_row(talk.turns[-1][0].content) if talk.turns else ""
    asked = asked if len(asked) <= SHORT else asked[: SHORT - 1] + "…"
    return (chat.name, len(talk.turns), talk.left_out or None, tokens, model_label(talk.model), asked)


class WholeChat:
    """One conversation, which shows itself in a notebook. All that was said in it is a stranger's text."""

    def __init__(self, chat: Chat) -> None:
        self._name, self._talk = chat.name, chat.conversation

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._html()}

    def __repr__(self) -> str:
        lines = [self._title()]
        for label, message in self._messages():
            lines += ["", label, _as_text(message)]
        return "\n".join(lines)

    def _html(self) -> str:
        title = f'<div class="mlxnb-footer">{html.escape(self._title())}</div>'
        parts = [
            f'<div class="mlxnb-turn"><div class="mlxnb-footer">{html.escape(label)}</div>'
            f'<div class="mlxnb-answer {LEFT_ALONE}" dir="auto">{message_html(message)}</div></div>'
            for label, message in self._messages()
        ]
        css = style.ANSWER + style.FOOTER + CSS
        if any('class="highlight"' in part for part in parts):
            css += style.CODE
        return style.page(title, *parts, css=css)

    def _title(self) -> str:
        return f"{one_row(self._name)}, {plural(len(self._talk.turns), 'turn')}"

    def _messages(self) -> Iterable[tuple[str, Message]]:
        """Each message with who said it in which turn."""
        talk = self._talk
        yield from (("system", message) for message in talk.system)
        for number, turn in enumerate(talk.turns, 1):
            if talk.summary and number == talk.left_out + 1:
                yield "summary of what was left out", Message("assistant", talk.summary)
            gone = ("left out, summarised" if talk.summary else "left out") if number <= talk.left_out else ""
            for message in turn:
                who = f"{message.role} {one_row(message.name)}".strip()
                yield " · ".join(filter(None, [str(number), who, gone])), message


def _calls(message: Message) -> list[str]:
    return [f"calls {one_row(call.written())[:CALLED]}" for call in message.tool_calls]


def _as_text(message: Message) -> str:
    return "\n".join(filter(None, [plain(message.content), *_calls(message)]))


def message_html(message: Message) -> str:
    """The model's words as Markdown, like its answers; everything else exactly as it was written."""
    calls = "".join(f"<p><code>{html.escape(call)}</code></p>" for call in _calls(message))
    if message.role == "assistant":
        return to_html(message.content) + calls
    return f"<pre>{html.escape(plain(message.content))}</pre>"
