"""One turn of a conversation in the chat panel: the question, the answer, and what can be done from there."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import ipywidgets as w

from ..render.chats import message_html
from ..render.footer import footer_html
from ..render.math import LEFT_ALONE
from ..request import Message
from ..result import Result
from .panel import styled

CSS = """
.mlxnb-panel .mlxnb-asked{border-left:2px solid var(--brand);padding:0 0 0 12px;white-space:pre-wrap;
overflow-wrap:anywhere;margin:16px 0 8px}
.mlxnb-panel .mlxnb-quiet{border:0;background:none;padding:0 8px 0 0;height:24px;line-height:24px;
color:var(--secondary);box-shadow:none}
.mlxnb-panel .mlxnb-quiet:hover{text-decoration:underline;box-shadow:none}
"""


def question_html(text: str) -> str:
    """A question as it was typed."""
    return f'<div class="mlxnb-asked {LEFT_ALONE}" dir="auto">{html.escape(text)}</div>'


def turn_html(turn: Sequence[Message], result: Result | None) -> str:
    """A turn, with its footer where its Result is known."""
    said = "".join(
        f'<div class="mlxnb-answer {LEFT_ALONE}" dir="auto">{message_html(message)}</div>' for message in turn[1:]
    )
    return question_html(turn[0].content) + said + (f"<hr>{footer_html(result)}" if result is not None else "")


class TurnView:
    """Shows turn `number`; `edit` and `fork` are called with that number."""

    def __init__(
        self,
        number: int,
        turn: Sequence[Message],
        result: Result | None,
        edit: Callable[[int], None],
        fork: Callable[[int], None],
    ) -> None:
        self.turn = tuple(turn)
        self._edit = _quiet("Edit and ask again", f"put question {number} into the box, to ask it again from there")
        self._fork = _quiet("Fork from here", f"another conversation with the first {number} turns")
        self._edit.on_click(lambda _: edit(number))
        self._fork.on_click(lambda _: fork(number))
        self.view = w.VBox([w.HTML(turn_html(turn, result)), w.HBox([self._edit, self._fork])])

    def set_running(self, running: bool) -> None:
        """Whether the conversation is being answered: it cannot be changed then."""
        self._edit.disabled = self._fork.disabled = running


def _quiet(label: str, tooltip: str) -> w.Button:
    return styled(w.Button(description=label, tooltip=tooltip), "mlxnb-quiet")
