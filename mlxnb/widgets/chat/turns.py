"""The turns of a conversation as the chat panel shows them: the last ones, and those that stay are left as they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import ipywidgets as w

from ...conversation import Conversation
from ...render.numbers import plural
from ...render.text import plain
from ...request import Message
from ...result import Result
from ..frame.panel import close_all, styled
from .turn_view import TurnView, question_html, turn_html

Turn = tuple[Message, ...]
SHOWN = 20  # turns: each is a dozen widgets, which a long conversation would have by the thousand
PICTURED = 50  # turns in the still picture
KEPT = 200  # answers whose figures are remembered


class Turns:
    """Shows the last `SHOWN` turns, all once that was asked for."""

    def __init__(self, actions: Mapping[tuple[str, str], Callable[[int], None]]) -> None:
        self._actions = actions
        self._answered: deque[tuple[Turn, Result]] = deque(maxlen=KEPT)
        self._all = False
        self.views: list[TurnView] = []
        self.system = w.HTML()
        self.earlier = styled(w.Button(), "mlxnb-earlier")
        self._box = w.VBox([])
        self.view = w.VBox([self.system, self.earlier, self._box])
        self._first = 0  # turns before those that are shown

    def answered(self, turn: Turn, result: Result) -> None:
        """Remember how a turn went."""
        self._answered.append((turn, result))

    def result(self, turn: Turn) -> Result | None:
        """How a turn went, where it was answered here lately."""
        return next((result for answered, result in reversed(self._answered) if answered == turn), None)

    def last_cut(self, talk: Conversation) -> bool:
        """Whether the last answer was cut at its limit."""
        result = self.result(talk.turns[-1]) if talk.turns else None
        return result is not None and result.finish_reason == "length"

    def shows(self, talk: Conversation) -> bool:
        """Whether this is what is shown."""
        turns = talk.turns
        return [view.turn for view in self.views] == turns[self._first :] and self.system.value == _system_html(talk)

    def show_all(self, everything: bool = True) -> None:
        """Whether earlier turns are shown too, from the next `show`."""
        self._all = everything

    def show(self, talk: Conversation, upto: int | None = None) -> None:
        """Bring the turns up to date, all of them or the first `upto`."""
        turns = talk.turns[:upto]
        first = 0 if self._all else max(0, len(turns) - SHOWN)
        now = [(turn, _gone(talk, number)) for number, turn in enumerate(turns, 1)][first:]
        same = 0
        while first == self._first and same < min(len(now), len(self.views)) and _is(self.views[same], *now[same]):
            same += 1
        gone, self.views = self.views[same:], self.views[:same]
        for number, (turn, words) in enumerate(now[same:], first + same + 1):
            self.views.append(TurnView(number, turn, self.result(turn), words, self._actions))
        self._first = first
        self._box.children = [view.view for view in self.views]
        self.system.value = _system_html(talk)
        self.earlier.description = f"Show {plural(first, 'earlier turn')}"
        self.earlier.layout.display = None if first else "none"
        for view in gone:
            close_all(view.view)

    def set_running(self, running: bool) -> None:
        """Whether the conversation is being answered."""
        for view in self.views:
            view.set_running(running)

    def page(self, talk: Conversation) -> str:
        """The last turns as a still picture, which the notebook's file holds."""
        turns = list(enumerate(talk.turns, 1))
        earlier = len(turns) - PICTURED
        said = f'<div class="mlxnb-secondary">{plural(earlier, "earlier turn")}</div>' if earlier > 0 else ""
        shown = (turn_html(turn, self.result(turn), _gone(talk, i), still=True) for i, turn in turns[-PICTURED:])
        return _system_html(talk) + said + "".join(shown)


def _is(view: TurnView, turn: Sequence[Message], gone: str) -> bool:
    return view.turn == tuple(turn) and view.gone == gone


def _gone(talk: Conversation, number: int) -> str:
    if number > talk.left_out:
        return ""
    return "the model is given a summary of this turn" if talk.summary else "the model is no longer given this turn"


def _system_html(talk: Conversation) -> str:
    if not talk.system:
        return ""
    return f'<div class="mlxnb-secondary">System</div>{question_html(plain(talk.system[0].content))}'
