"""The chat panel: the engine's conversations turn by turn, each to be edited, asked again, forked and exported."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import ipywidgets as w

from ..conversation import Conversation
from ..render.numbers import plural
from ..request import Message, Request
from ..result import Result
from ..tools import ToolCall
from .answer import AnswerBox
from .beat import BEAT
from .form import Form
from .panel import Panel, callback, close_all, styled
from .turn_view import CSS, TurnView, question_html, turn_html

if TYPE_CHECKING:
    from ..runtime.chats import Chat
    from ..runtime.exchange import Finish

FIRST = "chat"
Turn = tuple[Message, ...]


class ChatPanel(Panel):
    """The conversations that `--chat` and `mlxnb.chat` go on with, by the same names."""

    title = "Chat"
    css = CSS

    def body(self) -> Sequence[w.Widget]:
        self.form = Form(list(self.engine.backends), ["pocket"])
        self.name = w.Combobox(value=FIRST, description="Conversation", ensure_option=False, continuous_update=False,
                               style={"description_width": "initial"})  # fmt: skip
        self.prompt = styled(w.Textarea(description="Message", rows=3, placeholder="Ctrl+Enter sends it"), "mlxnb-wide")
        self.send = styled(w.Button(description="Send", button_style="primary"), "mlxnb-primary")
        self.stop = styled(w.Button(description="Stop", disabled=True), "mlxnb-stop")
        self.fork, self.undo = w.Button(description="Fork"), w.Button(description="Undo last turn")
        self.export = w.Button(description="Export", tooltip="save it as JSON beside the notebook")
        self.overflow = w.Dropdown(options=("error", "drop", "summarise"), description="When full")
        self.overflow.tooltip = "what becomes of a conversation that the context does not hold"
        self.answer = AnswerBox("")
        self._asked, self._turns = w.HTML(), w.VBox([])
        self._views: list[TurnView] = []
        self._answered: list[tuple[Turn, Result]] = []  # what was answered here, and how it went
        self._from: int | None = None  # the turn that is being edited
        self._failed: Exception | None = None  # what the last turn came to
        self._came: Result | None = None
        self._thread: Thread | None = None
        for button, done in (
            (self.send, self._send),
            (self.stop, self._stop),
            (self.fork, self._fork_all),
            (self.undo, self._undo),
            (self.export, self._export),
        ):
            button.on_click(done)
        self.name.observe(self._changed, "value")
        settings = styled(w.VBox([*self.form.first, self.overflow, *self.form.rest]), "mlxnb-form")
        more = w.Accordion([settings], titles=["Settings"], selected_index=None)
        top = styled(w.HBox([self.name, self.fork, self.undo, self.export]), "mlxnb-row")
        buttons = styled(w.HBox([self.send, self.stop]), "mlxnb-row")
        self._show()
        return [top, self._turns, self._asked, self.answer.view, self.prompt, buttons, more]

    @property
    def chat(self) -> Chat:
        """The conversation that is shown."""
        return self.engine.chats.open(self.name.value)

    @property
    def running(self) -> bool:
        """Whether an answer is on its way."""
        with self.lock:
            return self._thread is not None

    def picture(self) -> tuple[str, str]:
        from ..render.chats import WholeChat

        chat = self.chat
        turns = chat.conversation.turns
        if not turns:
            return '<div class="mlxnb-empty">Nothing was said yet.</div>', "Nothing was said yet."
        page = "".join(turn_html(turn, self._result(turn)) for turn in turns)
        return page, repr(WholeChat(chat))

    def glance(self) -> None:
        """Conversations may go on in a cell too."""
        names = tuple(self.engine.chats)
        if self.name.options != names:
            self.name.options = names
        if not self.running and [view.turn for view in self._views] != self.chat.conversation.turns:
            self._show()

    def leave(self) -> None:
        if self.answer.job is not None:
            self.answer.job.cancel()

    @callback
    def _send(self) -> None:
        if self.running:
            return
        chat, options = self.chat, self.form.options()
        talk = chat.conversation if self._from is None else chat.conversation.upto(self._from - 1)
        text, system = self.prompt.value, options.pop("system")
        talk = talk.asked(text, system)
        request = Request.of(talk.given(), **options)
        front = BoxFront(self)
        self._failed = self._came = None
        self._thread = Thread(target=self._take, args=(chat, talk, request, front), name="mlxnb-chat", daemon=True)
        self._asked.value = question_html(text)
        self._show(None if self._from is None else self._from - 1)
        self._set_running(True)
        self._thread.start()
        BEAT.follow(self._look, self.fail)

    def _take(self, chat: Chat, talk: Conversation, request: Request, front: BoxFront) -> None:
        """On a thread of its own: a turn may be several generations, each of which is waited for."""
        from ..runtime.exchange import Terms

        try:
            self._came = chat.take(talk, request, Terms(self.overflow.value), front)
            if chat.conversation.turns:
                self._answered.append((chat.conversation.turns[-1], self._came))
        except Exception as err:  # noqa: BLE001 - the edge of a thread: the beat shows it
            self._failed = err

    def _look(self) -> bool:
        with self.lock:
            if self.closed or self._thread is None:
                return False
            self.answer.look()
            if self._thread.is_alive():
                return True
            self._thread = None
            self._end()
        return False

    def _end(self) -> None:
        if self._failed is not None:
            self.fail(self._failed)  # what was asked stays in the box
        elif self._came is not None and self._came.finish_reason == "interrupted":
            self.say("Stopped: the conversation does not keep this answer.")
        else:
            self.prompt.value, self._asked.value, self._from = "", "", None
            self.answer.clear()
        self._show()
        self._set_running(False)
        self.keep_picture()

    @callback
    def _stop(self) -> None:
        self.leave()

    @callback
    def _fork_all(self) -> None:
        self._fork(len(self.chat))

    def _fork(self, turns: int) -> None:
        name = self.chat.name
        new = next(f"{name}-{i}" for i in range(2, 10_000) if f"{name}-{i}" not in set(self.engine.chats))
        self.chat.fork(new, turns)
        self.name.value = new
        self.say(f"{new} begins with {plural(turns, 'turn')} of {name}.")

    def _edit(self, number: int) -> None:
        self._from = number
        self.prompt.value = self.chat.conversation.turns[number - 1][0].content
        self.say(f"Send asks question {number} again; what followed it is forgotten once there is an answer.")

    @callback
    def _undo(self) -> None:
        self.chat.undo()
        self._show()

    @callback
    def _export(self) -> None:
        self.say(f"Saved to {self.chat.save(Path(f'{filed(self.chat.name)}.json'))}.")

    @callback
    def _changed(self) -> None:
        if not self.running:
            self._from = None
            self.answer.clear()
            self._asked.value = ""
            self._show()

    def _show(self, turns: int | None = None) -> None:
        """Bring the turns up to date, all of them or the first `turns`; those that stay are left as they are."""
        now = self.chat.conversation.turns[:turns]
        same = 0
        while same < min(len(now), len(self._views)) and self._views[same].turn == now[same]:
            same += 1
        gone, self._views = self._views[same:], self._views[:same]
        for i, turn in enumerate(now[same:], same + 1):
            edit, fork = self._in_turn(self._edit), self._in_turn(self._fork)
            self._views.append(TurnView(i, turn, self._result(turn), edit, fork))
        self._turns.children = [view.view for view in self._views]
        for view in gone:
            close_all(view.view)

    def _in_turn(self, done: Callable[[int], None]) -> Callable[[int], None]:
        return lambda number: callback(lambda panel: done(number))(self)

    def _result(self, turn: Turn) -> Result | None:
        return next((result for answered, result in reversed(self._answered) if answered == turn), None)

    def _set_running(self, running: bool) -> None:
        self.stop.disabled = not running
        for control in (self.send, self.fork, self.undo, self.name):
            control.disabled = running
        for view in self._views:
            view.set_running(running)


class BoxFront:
    """See Front: each answer grows in the panel's box. A panel offers no tools, so that nothing can be called."""

    def __init__(self, panel: ChatPanel) -> None:
        self._panel = panel

    def answer(self, request: Request, finish: Finish) -> Result:
        """See Front.answer."""
        panel = self._panel
        job = panel.engine.submit(request)
        with panel.lock:
            if panel.closed:
                job.cancel()
            else:
                panel.answer.follow(job)
        result = job.result()
        return finish(result) or result

    def summarised(self, result: Result, turns: int) -> None:
        """See Front.summarised."""
        self._panel.say(f"The oldest {plural(turns, 'turn')} are now given to the model as a summary.")

    def allows(self, call: ToolCall) -> bool:
        """See Front.allows."""
        return False

    def calling(self, call: ToolCall) -> None:
        """See Front.calling."""

    def called(self, call: ToolCall) -> None:
        """See Front.called."""


def filed(name: str) -> str:
    """A conversation's name as that of a file."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or FIRST
