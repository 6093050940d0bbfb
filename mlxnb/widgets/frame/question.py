"""Asks before something that cannot be undone: a line with two buttons, there only while it asks."""

from __future__ import annotations

import html
from collections.abc import Callable

import ipywidgets as w

from ...render.text import one_row
from .panel import Panel, styled


class Question:
    """The place in a panel for one question at a time. Esc answers no, wherever the focus is in the panel."""

    def __init__(self, panel: Panel) -> None:
        self._said = w.HTML()
        self.yes = w.Button(button_style="warning")
        self.no = styled(w.Button(description="Cancel"), "mlxnb-stop")
        self._then: Callable[[], None] | None = None
        self._otherwise: Callable[[], None] | None = None
        self.yes.on_click(lambda _: panel.do(lambda: self._answer(True)))
        self.no.on_click(lambda _: panel.do(lambda: self._answer(False)))
        self.view = w.VBox([self._said, styled(w.HBox([self.yes, self.no]), "mlxnb-row")])
        self._close()

    @property
    def open(self) -> bool:
        """Whether it waits for an answer."""
        return self._then is not None

    def ask(self, text: str, yes: str, then: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        """Show `text`, and do `then` where the button `yes` is pressed. A question that is open is answered with no."""
        if self.open:
            self._answer(False)
        self._then, self._otherwise = then, otherwise
        self._said.value = f'<div class="mlxnb-notice mlxnb-asks" role="alert">{html.escape(one_row(text))}</div>'
        self.yes.description = yes
        self.yes.disabled = self.no.disabled = False
        self.view.layout.display = None

    def withdraw(self) -> None:
        """Ask no more: what it was about is gone."""
        self._close()

    def _answer(self, yes: bool) -> None:
        done = self._then if yes else self._otherwise
        self._close()
        if done is not None:
            done()

    def _close(self) -> None:
        self._then = self._otherwise = None
        self.yes.disabled = self.no.disabled = True
        self.view.layout.display = "none"
