"""The place in a panel where one answer grows, and stays when it is finished."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import ipywidgets as w

from ..errors import MlxnbError
from ..render.footer import footer_html
from ..render.progress import progress_of
from ..render.result import answer_html, mimebundle, shown_as, thought
from ..render.unfinished import Unfinished

if TYPE_CHECKING:
    from ..result import Result
    from ..runtime import Job


class AnswerBox:
    """Shows one job at a time. `look` is what the beat calls; `html` and `text` are what a still picture takes."""

    def __init__(self, empty: str) -> None:
        self.view = w.HTML()
        self._empty = empty
        self.clear()

    def clear(self) -> None:
        """Empty, with the words that say what to do first."""
        self.job: Job | None = None
        self.result: Result | None = None
        self.error: MlxnbError | None = None
        self.view.value = f'<div class="mlxnb-empty">{html.escape(self._empty)}</div>'

    def follow(self, job: Job) -> None:
        """Show `job` from now on."""
        self._forget()
        self.job = job
        self._growing = Unfinished("markdown", job.request.model)
        self._text = self._thinking = ""
        self.look()

    def look(self) -> bool:
        """Show how far the job is; whether there is more to come."""
        job = self.job
        if job is None:
            return False
        for chunk in job.drain():
            self._text, self._thinking = self._text + chunk.text, self._thinking + chunk.thinking
        if job.settled:
            self.show(job.answer())
            return False
        self.view.value = self._growing.part(progress_of(job, self._text, self._thinking))
        return True

    def show(self, answer: Result | MlxnbError) -> None:
        """Show what a job came to."""
        self._forget()
        if isinstance(answer, MlxnbError):
            self.error = answer
        else:
            self.result = answer
        self.view.value = self.html()

    def _forget(self) -> None:
        """Leave what was shown on the page until there is something to show instead, so that nothing jumps."""
        self.job = self.result = self.error = None

    def html(self) -> str:
        """What has come of the last job, without a style sheet."""
        if self.error is not None:
            return error_html(self.error)
        return finished(self.result) if self.result is not None else ""

    def text(self) -> str:
        """The plain twin."""
        if self.error is not None:
            return f"{self.error.message} {self.error.remedy}".strip()
        return mimebundle(self.result)["text/plain"] if self.result is not None else ""


def finished(result: Result) -> str:
    """A finished answer with its footer."""
    body, _ = shown_as(result, "markdown")
    return f"{answer_html(body)}{thought(result)}<hr>{footer_html(result)}"


def error_html(error: MlxnbError) -> str:
    """What happened, and what to do."""
    message, remedy = html.escape(error.message), html.escape(error.remedy)
    return f'<div class="mlxnb-notice" role="alert"><b>{message}</b> {remedy}</div>'
