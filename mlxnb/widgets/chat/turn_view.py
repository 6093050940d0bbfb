"""One turn of a conversation in the chat panel: the question, the answer, and what can be done from there."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence

import ipywidgets as w

from ...render.chats import message_html
from ...render.footer import footer_html
from ...render.math import LEFT_ALONE
from ...render.result import thought
from ...request import Message
from ...result import Result
from ..asking.answer import notes_html
from ..frame.panel import styled

CSS = """
.mlxnb :is(.mlxnb-asked,.mlxnb-pictured){border-left:2px solid var(--brand);padding:0 0 0 12px;white-space:pre-wrap;
overflow-wrap:anywhere;margin:16px 0 8px}
.mlxnb-panel button:is(.mlxnb-quiet,.mlxnb-earlier){border:0;background:none;padding:0 16px 0 0;
height:24px;line-height:24px;color:var(--secondary);box-shadow:none}
.mlxnb-panel button:is(.mlxnb-quiet,.mlxnb-earlier):hover{text-decoration:underline;box-shadow:none}
.mlxnb-panel .mlxnb-wide.mlxnb-message{margin:8px 0 0}
"""


def question_html(text: str, still: bool = False) -> str:
    """A question as it was typed; in a still picture it goes by another name, as the live panel is on the page too."""
    kind = "mlxnb-pictured" if still else "mlxnb-asked"
    return f'<div class="{kind} {LEFT_ALONE}" dir="auto">{html.escape(text)}</div>'


def turn_html(turn: Sequence[Message], result: Result | None, gone: str = "", still: bool = False) -> str:
    """A turn, with its thinking and its footer where its Result is known; `gone` says what the model no longer hears
    of it.
    """
    said = "".join(
        f'<div class="mlxnb-answer {LEFT_ALONE}" dir="auto">{message_html(message)}</div>' for message in turn[1:]
    )
    above = f'<div class="mlxnb-secondary">{gone}</div>' if gone else ""
    below = f"{thought(result)}<hr>{footer_html(result)}{notes_html(result)}" if result is not None else ""
    return above + question_html(turn[0].content, still) + said + below


class TurnView:
    """Shows turn `number`, with a button for each of `actions`: its label and tooltip, and what is called with that
    number.
    """

    def __init__(
        self,
        number: int,
        turn: Sequence[Message],
        result: Result | None,
        gone: str,
        actions: Mapping[tuple[str, str], Callable[[int], None]],
    ) -> None:
        self.turn, self.gone = tuple(turn), gone
        self.buttons = [_quiet(*labels) for labels in actions]
        for button, action in zip(self.buttons, actions.values(), strict=True):
            button.on_click(lambda _, action=action: action(number))
        row = w.HBox(self.buttons)
        row.layout.flex_flow = "row wrap"
        self.view = w.VBox([w.HTML(turn_html(turn, result, gone)), row])

    def set_running(self, running: bool) -> None:
        """Whether the conversation is being answered: it cannot be changed then."""
        for button in self.buttons:
            button.disabled = running


def _quiet(label: str, tooltip: str) -> w.Button:
    return styled(w.Button(description=label, tooltip=tooltip), "mlxnb-quiet")
