"""The playground: one prompt, asked with settings that are moved by hand, beside another setting if one likes."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ipywidgets as w

from ..errors import MlxnbError
from ..render.table import Table
from ..result import Result
from .answer import AnswerBox
from .beat import BEAT
from .form import Form, body
from .panel import Panel, callback, close_all, styled

if TYPE_CHECKING:
    from ..request import Request
    from ..runtime import Job

KEPT = 50  # runs that the history holds
COLUMNS = ("run", "prompt", "asked with", "tokens", ("rate", "tok/s"), ("first token", "ms"), "ended")


@dataclass(frozen=True, slots=True)
class Run:
    """What was asked, in which setting, and what came of it."""

    number: int
    setting: str
    request: Request
    answer: Result | MlxnbError


class Playground(Panel):
    """Ask, look, move a slider, ask again."""

    title = "Playground"

    def body(self) -> Sequence[w.Widget]:
        self.runs: list[Run] = []
        self.forms = [self._form()]
        self.answers = [AnswerBox("Write a prompt and press Generate, or Ctrl+Enter. The answer grows here.")]
        self.prompt = styled(w.Textarea(description="Prompt", rows=5, placeholder="What should the model answer?"),
                             "mlxnb-wide")  # fmt: skip
        self.generate = styled(w.Button(description="Generate", button_style="primary"), "mlxnb-primary")
        self.stop = styled(w.Button(description="Stop", disabled=True), "mlxnb-stop")
        self.beside = w.ToggleButton(description="Two settings")
        self.copy = w.Button(description="Copy as cell")
        self._cell, self._history = w.HTML(), w.HTML()
        self.again = w.Dropdown(description="Back to", options=[("—", 0)], style={"description_width": "initial"})
        self.generate.on_click(self._generate)
        self.stop.on_click(self._stop)
        self.copy.on_click(self._copy)
        self.beside.observe(self._set_beside, "value")
        self.again.observe(self._go_back, "value")
        main = styled(w.VBox([self.prompt, self._buttons()]), "mlxnb-main")
        self._settings = styled(w.HBox([self._column(self.forms[0], "")]), "mlxnb-settings")
        self._answers = styled(w.HBox([self.answers[0].view]), "mlxnb-answers")
        self._past = styled(w.VBox([self.again, self._history]), "mlxnb-past")
        self._past.layout.display = "none"
        return [styled(w.HBox([main, self._settings]), "mlxnb-columns"), self._cell, self._answers, self._past]

    def picture(self) -> tuple[str, str]:
        prompt = self.prompt.value.strip()
        if not prompt:
            return '<div class="mlxnb-empty">Nothing was asked yet.</div>', "Nothing was asked yet."
        said = f'<div class="mlxnb-line"><code>{html.escape(self.cell())}</code></div>'
        shown = '<div class="mlxnb-beside">' + "".join(f"<div>{box.html()}</div>" for box in self.answers) + "</div>"
        table = self._table()
        texts = [self.cell(), *(box.text() for box in self.answers)]
        return said + shown + (table.part() if self.runs else ""), "\n\n".join(filter(None, texts))

    def cell(self, form: Form | None = None) -> str:
        """The cell that asks what the panel asks, with the first setting."""
        return f"{(form or self.forms[0]).line()}\n{body(self.prompt.value.strip())}"

    def leave(self) -> None:
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
        requests = [form.request(self.prompt.value) for form in self.forms]  # both, before either is asked
        self._cell.value = ""
        for box, request in zip(self.answers, requests, strict=True):
            box.follow(self.engine.submit(request))
        self._set_running(True)
        BEAT.follow(self._look, self.fail)

    @callback
    def _stop(self) -> None:
        self.leave()

    @callback
    def _copy(self) -> None:
        cell = self.cell()
        self._cell.value = f'<div class="mlxnb-line"><code>{html.escape(cell)}</code></div>'
        self.keys.copy(cell, lambda done: self.say("Copied." if done else "Select the cell above to copy it."))

    def _look(self) -> bool:
        with self.lock:
            if self.closed:
                return False
            for i, box in enumerate(self.answers):
                job = box.job
                if job is not None and not box.look():
                    self._keep(i, job)
            if self.running:
                return True
            self._set_running(False)
            self.keep_picture()
        return False

    def _keep(self, which: int, job: Job) -> None:
        number = self.runs[-1].number + 1 if self.runs else 1
        setting = self.forms[which].changed(self.forms[1 - which]) if len(self.forms) == 2 else ""
        self.runs = [*self.runs, Run(number, setting, job.request, job.answer())][-KEPT:]
        self._history.value = self._table().part()
        self._past.layout.display = None
        self.again.options = [("—", 0), *((f"run {run.number}", run.number) for run in reversed(self.runs))]

    def _table(self) -> Table:
        return Table(COLUMNS, [_row(run) for run in reversed(self.runs)], caption="Runs, the last one first")

    @callback
    def _go_back(self) -> None:
        run = next((run for run in self.runs if run.number == self.again.value), None)
        if run is None or self.running:
            return
        self.forms[0].put(run.request)
        self.prompt.value = run.request.messages[-1].content
        self.answers[0].show(run.answer)

    @callback
    def _set_beside(self) -> None:
        if self.running:
            return
        if self.beside.value:
            self.forms.append(self._form())
            self.forms[1].put(self.forms[0].request("-"))
            self.answers.append(AnswerBox("The second setting's answer grows here."))
            self._settings.children = [*self._settings.children, self._column(self.forms[1], "Second setting")]
        else:
            self.forms.pop()
            gone = self.answers.pop().view, self._settings.children[-1]
            self._settings.children = self._settings.children[:-1]
            self._answers.children = [self.answers[0].view]
            for widget in gone:
                close_all(widget)
        self._settings.children[0].children[0].value = _heading("First setting" if self.beside.value else "")
        self._answers.children = [box.view for box in self.answers]

    def _set_running(self, running: bool) -> None:
        self.generate.disabled, self.stop.disabled = running, not running
        self.beside.disabled = self.again.disabled = running

    def _form(self) -> Form:
        return Form(list(self.engine.backends), ["pocket"])

    def _buttons(self) -> w.HBox:
        return styled(w.HBox([self.generate, self.stop, self.beside, self.copy]), "mlxnb-row")

    def _column(self, form: Form, label: str) -> w.VBox:
        more = w.Accordion([styled(w.VBox(form.rest), "mlxnb-form")], titles=["More"], selected_index=None)
        return styled(w.VBox([w.HTML(_heading(label)), *form.first, more]), "mlxnb-form")


def _heading(label: str) -> str:
    return f'<div class="mlxnb-secondary">{label}</div>' if label else ""


def _row(run: Run) -> list[str | int | float | None]:
    options = run.request.sampling
    asked = f"{run.request.model}, temperature {options.temperature:g}, top p {options.top_p:g}"
    if run.setting:
        asked = f"{run.request.model}, {run.setting}"
    prompt = run.request.messages[-1].content
    prompt = prompt if len(prompt) <= 40 else prompt[:39] + "…"
    if isinstance(run.answer, MlxnbError):
        return [str(run.number), prompt, asked, None, None, None, run.answer.message]
    t = run.answer.timings
    ttft = None if t.ttft is None else round(1000 * t.ttft, 1)
    return [str(run.number), prompt, asked, run.answer.generation_tokens, t.decode_rate, ttft, run.answer.finish_reason]
