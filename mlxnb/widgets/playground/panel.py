"""The playground: one prompt, asked with settings that are moved by hand, beside another setting if one likes."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import ipywidgets as w

from ...errors import MlxnbError, OptionError
from ...render.answers import CSS as COMPARED
from ...render.answers import differences_part
from ...result import Result
from ..asking.answer import AnswerBox
from ..asking.as_cell import body, trimmed
from ..asking.form import Form
from ..asking.offers import ModelNames
from ..frame.beat import BEAT
from ..frame.panel import Panel, callback, close_all, styled
from .runs import KEPT, Asked, Run, runs_table

if TYPE_CHECKING:
    from ...request import Request
    from ...runtime import Job

NOTHING = "Nothing was asked yet."
FIRST, SECOND = "First setting", "Second setting"
CSS = """
.mlxnb-panel .mlxnb-past .mlxnb-table td{overflow-wrap:anywhere}
.mlxnb-panel .mlxnb-past .mlxnb-table td:last-child{overflow-wrap:break-word}
.mlxnb-panel .mlxnb-past .mlxnb-table th.mlxnb-right{white-space:normal}
@container (max-width:700px){.mlxnb-panel .mlxnb-past .mlxnb-table :is(th,td){padding:4px 8px 4px 0}
.mlxnb-panel .mlxnb-past .mlxnb-table :is(th,td):is(:nth-child(4),:nth-child(8)){display:none}}
@container (max-width:460px){
.mlxnb-panel .mlxnb-past .mlxnb-table :is(th,td):is(:nth-child(5),:nth-child(7)){display:none}}
"""


class Playground(Panel):
    """Ask, look, move a slider, ask again."""

    title = "Playground"
    css = COMPARED + CSS

    def body(self) -> Sequence[w.Widget]:
        self.runs: list[Run] = []
        self._asked: list[Asked] = []  # of the answers that are shown
        self._waiting: list[tuple[AnswerBox, Asked]] = []  # what is asked after the answer that is on its way
        self.models = ModelNames(self, self._offer)
        self.forms = [self._form()]
        self.answers = [AnswerBox("Write a prompt and press Generate, or Ctrl+Enter. The answer grows here.")]
        self.prompt = styled(w.Textarea(description="Prompt", rows=5, placeholder="What should the model answer?"),
                             "mlxnb-wide")  # fmt: skip
        self.generate = styled(w.Button(description="Generate", button_style="primary"), "mlxnb-primary")
        self.stop = styled(w.Button(description="Stop", disabled=True), "mlxnb-stop")
        self.beside = w.ToggleButton(
            description="Two settings",
            tooltip="ask with two settings and see both answers; each is computed anew, so that their figures compare",
        )
        self.copy = w.Button(description="Copy as cell", tooltip="a %%generate cell that asks the same")
        self.copy_second = w.Button(description="Copy second as cell", tooltip="the same with the second setting")
        self._cell, self._differs, self._compared, self._history = w.HTML(), w.HTML(), w.HTML(), w.HTML()
        self.again = w.Dropdown(description="Run", options=[("choose one", 0)], style={"description_width": "initial"})
        self.put_back = w.Button(description="Put back", tooltip="its prompt, setting and answer", disabled=True)
        self.generate.on_click(self._generate)
        self.stop.on_click(self._stop)
        self.copy.on_click(self._copy)
        self.copy_second.on_click(self._copy_second)
        self.put_back.on_click(self._go_back)
        self.beside.observe(self._set_beside, "value")
        self.again.observe(lambda _: self._set_running(self.running), "value")
        return self._layout()

    def _layout(self) -> Sequence[w.Widget]:
        main = styled(w.VBox([self.prompt, self._buttons()]), "mlxnb-main")
        self._settings = styled(w.HBox([self._column(self.forms[0], "")]), "mlxnb-settings")
        self._answers = styled(w.HBox([self.answers[0].view]), "mlxnb-answers")
        back = styled(w.HBox([self.again, self.put_back]), "mlxnb-row")
        self._past = styled(w.VBox([back, self._history]), "mlxnb-past")
        self._past.layout.display = self.copy_second.layout.display = "none"
        columns = styled(w.HBox([main, self._settings]), "mlxnb-columns")
        self.models.look()
        return [columns, self._differs, self._cell, self._answers, self._compared, self._past]

    def picture(self) -> tuple[str, str]:
        if not self._asked:
            return f'<div class="mlxnb-empty">{NOTHING}</div>', NOTHING
        lines = "".join(f'<div class="mlxnb-line"><code>{html.escape(each.cell)}</code></div>' for each in self._asked)
        shown = '<div class="mlxnb-beside">' + "".join(f"<div>{box.html()}</div>" for box in self.answers) + "</div>"
        table = runs_table(self.runs).part() if self.runs else ""
        texts = [*(each.cell for each in self._asked), *(box.text() for box in self.answers)]
        return lines + shown + table, "\n\n".join(filter(None, texts))

    def cell(self, form: Form | None = None) -> str:
        """The cell that asks what the panel would ask now, with the first setting."""
        return f"{(form or self.forms[0]).line()}\n{body(trimmed(self.prompt.value))}"

    def glance(self) -> None:
        """A model that is in memory may be none of those that were found on disk."""
        self.models.add(info.name for info in self.engine.models())

    def leave(self) -> None:
        self._waiting = []
        for box in self.answers:
            if box.job is not None:
                box.job.cancel()

    @property
    def running(self) -> bool:
        """Whether an answer is on its way."""
        with self.lock:
            return any(box.job is not None for box in self.answers)

    @callback
    def _generate(self) -> None:
        if self.running:
            return
        asked = [self._to_ask(place, form) for place, form in enumerate(self.forms)]  # all, before one is asked
        self._cell.value = self._compared.value = ""
        self._asked, self._waiting = asked, list(zip(self.answers, asked, strict=True))
        for box in self.answers[1:]:
            box.clear()
        self._submit_next()
        self._set_running(True)
        BEAT.follow(self._look, self._broke)

    def _submit_next(self) -> None:
        """Ask the next setting. One at a time, or the second answer's first token would seem to take the first answer
        too.
        """
        box, asked = self._waiting.pop(0)
        try:
            box.follow(self.engine.submit(asked.request))
        except MlxnbError:
            self._give_up()
            raise

    def _to_ask(self, place: int, form: Form) -> Asked:
        return Asked(self._request(form), form.in_words(), self.cell(form), place)

    def _request(self, form: Form) -> Request:
        request = form.request(trimmed(self.prompt.value))
        # What is kept of the first answer would make the second one look faster than it is.
        return replace(request, cache="off") if len(self.forms) == 2 and request.cache == "auto" else request

    @callback
    def _stop(self) -> None:
        self.leave()

    @callback
    def _copy(self) -> None:
        self._copy_cell(self.forms[0])

    @callback
    def _copy_second(self) -> None:
        self._copy_cell(self.forms[-1])

    def _copy_cell(self, form: Form) -> None:
        form.request(trimmed(self.prompt.value))  # what cannot be asked is told here, not in the cell
        cell = self.cell(form)
        self._show_cell(cell, "The cell:")
        refused = "The browser did not let it be copied. Select the cell:"
        self.keys.copy(cell, lambda done: self._show_cell(cell, "Copied:" if done else refused))

    def _show_cell(self, cell: str, words: str) -> None:
        with self.lock:
            if not self.closed:
                line = f'<div class="mlxnb-line"><code>{html.escape(cell)}</code></div>'
                self._cell.value = f'<div class="mlxnb-secondary" role="status">{words}</div>{line}'

    def _look(self) -> bool:
        with self.lock:
            if self.closed:
                return False
            for asked, box in zip(self._asked, self.answers, strict=True):
                job = box.job
                if job is not None and not box.look():
                    self._keep(asked, job)
                    if self._waiting:
                        self._submit_next()
            if self.running:
                return True
            self._compare()
            self._set_running(False)
            self.keep_picture()
        return False

    def _broke(self, error: Exception) -> None:
        """What is shown failed, and not the answer: the panel must not wait for it for ever."""
        with self.lock:
            self._give_up()
            self.fail(error)

    def _give_up(self) -> None:
        self.leave()
        self._asked = []
        for box in self.answers:
            box.clear()
        self._set_running(False)

    def _keep(self, asked: Asked, job: Job) -> None:
        number = self.runs[-1].number + 1 if self.runs else 1
        self.runs = [*self.runs, Run(number, asked, job.answer())][-KEPT:]
        self._history.value = runs_table(self.runs).part()
        self._past.layout.display = None
        chosen, options = self.again.value, [("choose one", 0), *((r.label, r.number) for r in reversed(self.runs))]
        self.again.options = options
        self.again.value = chosen if chosen in [number for _, number in options] else 0

    def _compare(self) -> None:
        """Say how far two answers are one."""
        found = [box.result for box in self.answers if isinstance(box.result, Result)]
        self._compared.value = differences_part(*found) if len(found) == 2 else ""

    @callback
    def _go_back(self) -> None:
        run = next((run for run in self.runs if run.number == self.again.value), None)
        if run is None or self.running:
            return
        place = min(run.asked.place, len(self.forms) - 1)
        self.forms[place].put(run.asked.request)
        self.prompt.value = run.asked.prompt
        self.answers[place].show(run.answer)
        self._cell.value = self._compared.value = ""
        self._asked = [*self._asked[:place], run.asked, *self._asked[place + 1 :]]
        self.say(f"Run {run.number} is in the controls.")

    @callback
    def _set_beside(self) -> None:
        if self.running or self.beside.value == (len(self.forms) == 2):
            return
        if self.beside.value:
            self._add_setting()
        else:
            self._take_setting()
        two = len(self.forms) == 2
        self._settings.children[0].children[0].value = _heading(FIRST if two else "")
        self.answers[0].head(_heading(FIRST if two else ""))
        self.copy.description = "Copy first as cell" if two else "Copy as cell"
        self.copy_second.layout.display = None if two else "none"
        self._answers.children = [box.view for box in self.answers]
        self._compared.value = ""
        self._asked = self._asked[: len(self.forms)]
        self._tell_differences()

    def _add_setting(self) -> None:
        form = self._form()
        form.copy(self.forms[0])
        self.forms.append(form)
        self.answers.append(AnswerBox("Its answer grows here, after the first one's."))
        self.answers[1].head(_heading(SECOND))
        self._settings.children = [*self._settings.children, self._column(form, SECOND)]

    def _take_setting(self) -> None:
        self.forms.pop()
        gone = self.answers.pop().view, self._settings.children[-1]
        self._settings.children = self._settings.children[:-1]
        self._answers.children = [self.answers[0].view]
        for widget in gone:
            close_all(widget)

    def _tell_differences(self) -> None:
        """In what two settings differ, as the controls stand."""
        if len(self.forms) < 2:
            self._differs.value = ""
            return
        try:
            found = self.forms[0].changed(self.forms[1])
        except OptionError:
            return  # a number that is half typed: asking says so
        parts = [f"<b>{name}</b> {html.escape(here)} | {html.escape(there)}" for name, (here, there) in found.items()]
        words = f"They differ in {' · '.join(parts)}" if parts else "Both settings are the same: change one of them."
        self._differs.value = f'<div class="mlxnb-secondary" role="status">{words}</div>'

    def _set_running(self, running: bool) -> None:
        self.generate.disabled, self.stop.disabled = running, not running
        self.beside.disabled = self.again.disabled = running
        self.put_back.disabled = running or not self.again.value

    def _form(self) -> Form:
        form = Form(self.engine.backends, self.models.names)
        form.on_change(self._tell_differences)
        return form

    def _offer(self, names: tuple[str, ...]) -> None:
        for form in getattr(self, "forms", ()):
            form.offer(names)

    def _buttons(self) -> w.HBox:
        return styled(w.HBox([self.generate, self.stop, self.beside, self.copy, self.copy_second]), "mlxnb-row")

    def _column(self, form: Form, label: str) -> w.VBox:
        more = w.Accordion([styled(w.VBox(form.rest), "mlxnb-form")], titles=["More"], selected_index=None)
        return styled(w.VBox([w.HTML(_heading(label)), *form.first, more]), "mlxnb-form")


def _heading(label: str) -> str:
    return f'<div class="mlxnb-secondary">{label}</div>' if label else ""
