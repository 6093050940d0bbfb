"""The chat panel: the engine's conversations turn by turn, each to be edited, asked again, forked and exported."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import ipywidgets as w

from ...conversation import Conversation
from ...errors import ConversationError, OptionError, PromptTooLongError
from ...render.numbers import plural
from ...request import Message, Request
from ...result import Result
from ..asking.answer import AnswerBox
from ..asking.as_cell import trimmed
from ..asking.form import LABEL, Form
from ..asking.offers import ModelNames
from ..frame.beat import BEAT
from ..frame.free_file import free_file
from ..frame.panel import Panel, callback, styled
from .front import BoxFront
from .tools import Tools
from .turn_view import CSS, question_html
from .turns import Turns

if TYPE_CHECKING:
    from ...runtime.chats import Chat
    from ...runtime.exchange import Terms

FIRST = "chat"
GO_ON = "Go on."
NOTHING = "Nothing was said yet. Write a message and press Send, or Ctrl+Enter."
WHEN_FULL = 'set "When full", under Settings, to drop the oldest turns or to summarise them'


class ChatPanel(Panel):
    """The conversations that `--chat` and `mlxnb.chat` go on with, by the same names."""

    title = "Chat"
    css = CSS

    def body(self) -> Sequence[w.Widget]:
        self.models = ModelNames(self, lambda names: self.form.offer(names))
        self.form = Form(self.engine.backends, self.models.names)
        self.name = styled(
            w.Combobox(value=FIRST, description="Conversation", ensure_option=False, continuous_update=False,
                       style={"description_width": "initial"}),
            "mlxnb-names",
        )  # fmt: skip
        self.prompt = styled(w.Textarea(description="Message", rows=3, placeholder="Ctrl+Enter sends it"),
                             "mlxnb-wide", "mlxnb-message")  # fmt: skip
        self.overflow = w.Dropdown(options=("error", "drop", "summarise"), description="When full", style=LABEL)
        self.overflow.tooltip = "what becomes of a conversation that the context does not hold"
        self.answer, self.tools = AnswerBox(""), Tools(LABEL)
        self._asked = w.HTML()
        actions = {
            ("Edit and ask again", "put this question into the box, to ask from there"): self._edit,
            ("Ask again", "this question once more; what follows it is forgotten"): self._ask_again,
            ("Fork from here", "another conversation with the turns up to this one"): self._fork,
        }
        self.turns = Turns({labels: self._in_turn(done) for labels, done in actions.items()})
        self._chat_shown = FIRST  # the last name that was one
        self._from: int | None = None  # the turn that is being asked again
        self._draft = ""  # what stood in the box before a question was put there
        self._sent = ("", "")  # what was asked last, and what the box held from then on
        self._stopped: tuple[Conversation, Conversation] | None = None  # what a stopped answer goes on, and makes
        self._before: tuple[str, Conversation] | None = None  # what was there before the last change
        self._failed: Exception | None = None  # what the last turn came to
        self._came: Result | None = None
        self._kept = False
        self._thread: Thread | None = None
        self._front = BoxFront(self)
        self._saved: dict[str, Path] = {}  # where each conversation was exported to
        self._make_buttons()
        self.turns.earlier.on_click(self._show_all)
        self.name.observe(self._changed, "value")
        settings = styled(w.VBox([*self.form.first, self.overflow, self.tools.names, *self.form.rest]), "mlxnb-form")
        self._more = w.Accordion([settings], selected_index=None)
        self.form.on_change(self._title_settings)
        self._title_settings()
        top = (self.name, self.fork, self.undo, self.delete, self.bring_back, self.export)
        buttons = (self.send, self.stop, self.keep, self.go_on, self.leave_edit)
        self._show()
        self._set_running(False)
        self.models.look()
        return [
            styled(w.HBox(top), "mlxnb-row"), self.turns.view, self._asked, self.tools.view, self.answer.view,
            self._notice, self.prompt, styled(w.HBox(buttons), "mlxnb-row"), self._more,
        ]  # fmt: skip

    def _make_buttons(self) -> None:
        def button(label: str, done: Callable[..., None], tooltip: str = "") -> w.Button:
            made = w.Button(description=label, tooltip=tooltip or label)
            made.on_click(done)
            return made

        self.send = styled(button("Send", self._send), "mlxnb-primary")
        self.send.button_style = "primary"
        self.stop = styled(button("Stop", self._stop), "mlxnb-stop")
        self.keep = button("Keep", self._keep, "the stopped answer becomes a turn of the conversation")
        self.go_on = button("Go on", self._go_on, f"keep what there is of the answer, and ask: {GO_ON}")
        self.leave_edit = button("Leave as it was", self._leave_edit, "ask no earlier question again")
        self.fork = button("Fork", self._fork_all, "another conversation that begins as this one")
        self.undo = button("Undo last turn", self._undo)
        self.delete = button("Delete", self._delete, "forget the whole conversation")
        self.bring_back = button("Bring back", self._bring_back, "the conversation as it was before the last change")
        self.export = button("Export", self._export, "save it as JSON in the folder of the notebook")

    @property
    def chat(self) -> Chat:
        """The conversation that is shown."""
        return self.engine.chats.open(self._chat_shown)

    @property
    def running(self) -> bool:
        """Whether an answer is on its way."""
        with self.lock:
            return self._thread is not None

    def picture(self) -> tuple[str, str]:
        from ...render.chats import WholeChat

        chat = self.chat
        if not chat.conversation.turns:
            return '<div class="mlxnb-empty">Nothing was said yet.</div>', "Nothing was said yet."
        return self.turns.page(chat.conversation), repr(WholeChat(chat))

    def fail(self, error: Exception) -> None:
        """See Panel.fail. What a line's option mends in a cell, a control mends here."""
        if isinstance(error, PromptTooLongError):
            from ...runtime.overflow import CHOICE

            error = type(error)(error.message, error.remedy.replace(CHOICE, WHEN_FULL))
        super().fail(error)

    def glance(self) -> None:
        """Conversations may go on in a cell too."""
        names = tuple(self.engine.chats)
        if self.name.options != names:
            self.name.options = names
        self.models.add(info.name for info in self.engine.models())
        if not self.running and not self.turns.shows(self.chat.conversation):
            self._show()
            self._set_running(False)

    def leave(self) -> None:
        self._front.stop()

    @callback
    def _send(self) -> None:
        if not self.running:
            self._ask(trimmed(self.prompt.value), self._from, self._draft)

    def _ask(self, text: str, turn: int | None, rest: str) -> None:
        """Ask the next question, or question `turn` anew. `rest` is what the box holds from now on."""
        from ...runtime.exchange import Terms

        chat, options = self.chat, self.form.options()
        whole = chat.conversation
        talk = whole if turn is None else whole.upto(turn - 1)
        options.pop("system")
        talk = talk.asked(text, *self.form.own_system())
        terms = Terms(self.overflow.value, self.tools.functions())
        request = Request.of(talk.given(), tools=terms.tools.values(), **options)
        instead_of = None if turn is None else whole
        self._failed = self._came = self._stopped = None
        self._from, self._kept, self._front, self._sent = turn, False, BoxFront(self), (text, rest)
        self._thread = Thread(
            target=self._take,
            args=(chat, talk, request, terms, self._front, instead_of),
            name="mlxnb-chat",
            daemon=True,
        )
        self._asked.value, self.prompt.value, self._draft = question_html(text), rest, ""
        self.answer.clear()
        self.turns.show(whole, None if turn is None else turn - 1)
        self._set_running(True)
        self._thread.start()
        BEAT.follow(self._look, self.fail)

    def _take(
        self,
        chat: Chat,
        talk: Conversation,
        request: Request,
        terms: Terms,
        front: BoxFront,
        instead_of: Conversation | None,
    ) -> None:
        """On a thread of its own: a turn may be several generations, each of which is waited for."""
        try:
            before = chat.conversation
            came = chat.take(talk, request, terms, front, instead_of)
            after = chat.conversation
            with self.lock:
                self._came, self._kept = came, after is not before
                if self._kept:
                    self.turns.answered(after.turns[-1], came)
                    self._before = (chat.name, before) if instead_of is not None else None
                elif came.text.strip():
                    grown = talk.grown([Message("assistant", came.text)]).by(request.model)
                    self._stopped = before, grown
        except Exception as err:  # noqa: BLE001 - the edge of a thread: the beat shows it
            self._failed = err

    def _look(self) -> bool:
        with self.lock:
            if self.closed or self._thread is None:
                return False
            alive = self._thread.is_alive()  # asked first, so that what it ended with is shown
            try:
                self.answer.look()
            except Exception as err:  # noqa: BLE001 - what cannot be shown must not leave the panel waiting
                self._front.stop()
                self.answer.clear()
                self._failed = err
            if not alive:
                self._thread = None
                self.tools.clear()
                self._end()
        return alive

    def _end(self) -> None:
        if self._failed is not None:
            self.fail(self._failed)
            self._take_back()
        elif self._came is not None and not self._kept:
            self.answer.show(self._came)
            self.say(self._why_not_kept(self._came))
            self._take_back()
        else:
            self._asked.value, self._from = "", None
            self.answer.clear()
        self._show()
        self._set_running(False)
        self.keep_picture()

    def _take_back(self) -> None:
        """Put what was asked and came to nothing into the box again, unless something was written there meanwhile."""
        text, rest = self._sent
        if self.prompt.value == rest:
            self.prompt.value, self._draft = text, rest
        else:
            self._from = None

    def _why_not_kept(self, came: Result) -> str:
        if came.finish_reason != "interrupted":
            return "There is no answer that the conversation could go on from: it is as it was."
        if not came.text.strip():
            return "Stopped before there was an answer. The conversation is as it was."
        return "Stopped. The conversation is as it was: Keep makes this answer a turn of it, Go on asks for the rest."

    @callback
    def _stop(self) -> None:
        self._front.stop()

    @callback
    def _keep(self) -> None:
        self._keep_stopped()
        self._set_running(False)

    @callback
    def _go_on(self) -> None:
        if not self.running:
            self._keep_stopped()
            self._ask(GO_ON, None, self.prompt.value)

    def _keep_stopped(self) -> None:
        """Make a stopped answer a turn, if there is one."""
        if self._stopped is None:
            return
        before, grown = self._stopped
        if self.chat.conversation != before:
            raise ConversationError(f"{self.chat.name} has changed meanwhile.", "Ask again.")
        self._become(grown)
        if self._came is not None:
            self.turns.answered(grown.turns[-1], self._came)
        if self.prompt.value == self._sent[0]:
            self.prompt.value = self._draft
        self._asked.value, self._from, self._draft, self._stopped = "", None, "", None
        self.answer.clear()
        self._show()

    def _become(self, conversation: Conversation) -> None:
        """Put a conversation in the place of the one that is shown, which can be brought back."""
        before = self.chat.conversation
        self.chat.become(conversation)
        self._before = self.chat.name, before

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
        if self._from is None:
            self._draft = self.prompt.value
        self._from = number
        self.prompt.value = self.chat.conversation.turns[number - 1][0].content
        self._set_running(False)
        self.keys.focus("mlxnb-message")
        self.say(f"Send asks question {number} again; what followed it is forgotten once there is an answer.")

    def _ask_again(self, number: int) -> None:
        rest = self._draft if self._from is not None else self.prompt.value
        self._ask(self.chat.conversation.turns[number - 1][0].content, number, rest)

    @callback
    def _leave_edit(self) -> None:
        self._drop_edit()
        self._show()
        self._set_running(False)

    def _drop_edit(self) -> None:
        if self._from is not None:
            self.prompt.value = self._draft
        self._from, self._draft, self._stopped = None, "", None
        self.answer.clear()
        self._asked.value = ""

    @callback
    def _undo(self) -> None:
        self._become(self.chat.conversation.undone())
        self._drop_edit()
        self._show()
        self._set_running(False)

    @callback
    def _delete(self) -> None:
        name, turns = self.chat.name, len(self.chat)
        if not turns:
            raise ConversationError(f"There is nothing in {name}.", "It has no turn yet.")
        self._become(Conversation())
        self._drop_edit()
        self._show()
        self._set_running(False)
        self.say(f"The {plural(turns, 'turn')} of {name} are gone. Bring back undoes that.")

    @callback
    def _bring_back(self) -> None:
        if self._before is None or self.running:
            return
        name, before = self._before
        self.name.value = name
        self._drop_edit()
        self._become(before)
        self._show()
        self._set_running(False)

    @callback
    def _export(self) -> None:
        chat = self.chat
        if not chat.conversation.messages:
            raise ConversationError(f"There is nothing in {chat.name} to export.", "It has no turn yet.")
        path = self._saved.get(chat.name) or free_file(filed(chat.name), "json")
        self._saved[chat.name] = chat.save(path)
        load = f"`%mlxnb chat NAME load {self._saved[chat.name]}` reads it again."
        self.say(f"{plural(len(chat), 'turn')} saved to {self._saved[chat.name]}. {load}")

    @callback
    def _show_all(self) -> None:
        self.turns.show_all()
        self._show()

    @callback
    def _changed(self) -> None:
        name = self.name.value.strip()
        if self.running or not name:
            self.name.value = self._chat_shown
            if not name:
                raise OptionError("A conversation's name is empty.", "It takes a word, such as trip.")
            return
        if name != self._chat_shown:
            self._chat_shown = name
            self._drop_edit()
            self.turns.show_all(False)
            self._show()
            self._set_running(False)

    def _show(self) -> None:
        talk = self.chat.conversation
        self.turns.show(talk)
        self.answer.empty("" if talk.turns else NOTHING)

    def _in_turn(self, done: Callable[[int], None]) -> Callable[[int], None]:
        def called(number: int) -> None:
            if not self.running:
                self.do(lambda: done(number))

        return called

    def _title_settings(self) -> None:
        try:
            words = self.form.in_words()
        except OptionError as err:
            words = err.message
        self._more.set_title(0, f"Settings: {words}")

    def _set_running(self, running: bool) -> None:
        """What can be done now."""
        self.stop.disabled = not running
        talk = self.chat.conversation
        self.send.disabled = self.name.disabled = running
        for control in (self.fork, self.undo, self.delete, self.export):
            control.disabled = running or not talk.turns
        self.bring_back.disabled = running or self._before is None
        shown = {
            self.keep: self._stopped is not None,
            self.go_on: self._stopped is not None or (self._from is None and self.turns.last_cut(talk)),
            self.leave_edit: self._from is not None,
        }
        for button, there in shown.items():
            button.layout.display = None if there and not running else "none"
        self.turns.set_running(running)


def filed(name: str) -> str:
    """A conversation's name as that of a file."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or FIRST
