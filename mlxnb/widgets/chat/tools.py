"""The functions of the notebook that a chat panel offers to the model, and the question before one of them is run."""

from __future__ import annotations

import html
from collections.abc import Callable
from threading import Event
from typing import Any

import ipywidgets as w

from ...render.math import LEFT_ALONE
from ...render.text import one_row, shortened
from ...toolbox import Function, named, of_notebook
from ...tools import ToolCall
from ..frame.panel import styled

WRITTEN = 300  # characters of a call, or of what came back, that are shown


class Tools:
    """`names` is the box for the functions' names; `view` shows the steps of a turn and asks before each function is
    run for the first time in it.
    """

    def __init__(self, label: dict[str, str]) -> None:
        self.names = w.Text(
            description="Tools", placeholder="functions of this notebook, commas between", style=label,
            tooltip="annotated functions that the model may ask to call; the panel asks you before one is run",
        )  # fmt: skip
        self.allow = w.Button(description="Run it", tooltip="and later calls of it in this turn")
        self.refuse = w.Button(description="Refuse", tooltip="the model is told that it was not allowed")
        self._steps, self._question = w.HTML(), w.HTML()
        self._asking = w.VBox([self._question, styled(w.HBox([self.allow, self.refuse]), "mlxnb-row")])
        self.view = w.VBox([self._steps, self._asking])
        self.allow.on_click(lambda _: self._answer(True))
        self.refuse.on_click(lambda _: self._answer(False))
        self._said, self._allowed = Event(), False
        self._lines: list[str] = []
        self.clear()

    def functions(self) -> dict[str, Function]:
        """The functions that are named, by the names that the model calls them by.

        Raises:
            OptionError: there is none of that name, or it cannot be a tool.
        """
        from IPython.core.getipython import get_ipython

        held: dict[str, Any] = getattr(get_ipython(), "user_ns", {})
        return named(of_notebook(name.strip(), held) for name in self.names.value.split(",") if name.strip())

    def allows(self, call: ToolCall, stopped: Callable[[], bool]) -> bool:
        """Ask whether a call may be run; waits for a click, or until the turn is stopped, which refuses."""
        self._said.clear()
        self._allowed = False
        if stopped():
            return False
        wants = f"The model wants to call <code>{_short(call.written())}</code>."
        self._question.value = f'<div class="mlxnb-notice mlxnb-plain {LEFT_ALONE}" role="alert">{wants}</div>'
        self._asking.layout.display = None
        self._said.wait()
        self._asking.layout.display = "none"
        return self._allowed

    def release(self) -> None:
        """Let nobody wait for a click any more."""
        self._said.set()

    def step(self, words: str, call: ToolCall, last: bool = False) -> None:
        """Show a step of the turn, in the place of the `last` one where it ends that."""
        line = f"<div>{html.escape(words)} {_short(call.written())}</div>"
        self._lines = [*(self._lines[:-1] if last else self._lines), line]
        self._steps.value = f'<div class="mlxnb-secondary {LEFT_ALONE}">{"".join(self._lines)}</div>'

    def clear(self) -> None:
        """Nothing is under way."""
        self._lines = []
        self._steps.value = ""
        self._asking.layout.display = "none"

    def _answer(self, allowed: bool) -> None:
        self._allowed = allowed
        self._said.set()


def _short(text: str) -> str:
    return html.escape(shortened(one_row(text), WRITTEN))
