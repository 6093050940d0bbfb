"""The place in a panel where one answer grows, and stays when it is finished."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import ipywidgets as w

from ...errors import MlxnbError
from ...render.footer import footer_html
from ...render.math import LEFT_ALONE
from ...render.progress import progress_of
from ...render.result import answer_html, mimebundle, shown_as, thought
from ...render.text import one_row
from ...render.unfinished import Unfinished

if TYPE_CHECKING:
    from ...result import Result
    from ...runtime import Job


class AnswerBox:
    """Shows one job at a time. `look` is what the beat calls; `html` and `text` are what a still picture takes."""

    def __init__(self, empty: str) -> None:
        self.view = w.HTML()
        self._empty, self._heading = empty, ""
        self.clear()

    def clear(self) -> None:
        """Empty, with the words that say what to do first."""
        self.job: Job | None = None
        self.result: Result | None = None
        self.error: MlxnbError | None = None
        self.empty(self._empty)

    def empty(self, words: str) -> None:
        """What to say where there is nothing; nothing at all where that is empty."""
        self._empty = words
        if self.job is self.result is self.error is None:
            self._draw(f'<div class="mlxnb-empty">{html.escape(words)}</div>' if words else "")

    def head(self, heading: str) -> None:
        """Put a line of HTML above whatever is shown."""
        shown = self.view.value.removeprefix(self._heading)
        self._heading = heading
        self._draw(shown)

    def _draw(self, page: str) -> None:
        self.view.value = self._heading + page

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
        self._draw(self._growing.part(progress_of(job, self._text, self._thinking)))
        return True

    def show(self, answer: Result | MlxnbError) -> None:
        """Show what a job came to."""
        self._forget()
        if isinstance(answer, MlxnbError):
            self.error = answer
        else:
            self.result = answer
        self._draw(self.html())

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
    return f"{answer_html(body)}{thought(result)}<hr>{footer_html(result)}{notes_html(result)}"


def notes_html(result: Result) -> str:
    """What a reader should know of an answer, such as an option that its backend does not take."""
    notes = "".join(f"<div>{html.escape(one_row(note))}</div>" for note in result.provenance.notes)
    return f'<div class="mlxnb-secondary {LEFT_ALONE}">{notes}</div>' if notes else ""


def error_html(error: MlxnbError) -> str:
    """What happened, and what to do."""
    message, remedy = html.escape(error.message), html.escape(error.remedy)
    return f'<div class="mlxnb-notice" role="alert"><b>{message}</b> {remedy}</div>'
