"""`%%generate --each`: a column in, a column out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import MlxnbError, OptionError
from ..render.numbers import count, plural
from ..result import Result
from ..runtime.row_template import RowTemplate, text_of
from ..runtime.rows import rows_of
from .column import Column
from .follow import GRACE
from .variables import path_of, value_of

if TYPE_CHECKING:
    from ..render import Table
    from ..render.cells import Cell
    from ..request import Request
    from ..runtime.map_job import MapJob

# Rows of the table that a cell shows: all that failed come first, and there are as many more as fit.
SHOWN = 50
LONGEST = 100  # characters of an answer in it


class Answers(list[Any]):
    """What the rows came to, in their order: a Result, the MlxnbError that the row failed with, or None where the cell
    was stopped before. `labels` name the rows, by their index where they have one.
    """

    def __init__(self, answers: Iterable[Any], labels: Sequence[Any], kept: int, notes: Sequence[str]) -> None:
        super().__init__(answers)
        self.labels, self.kept, self.notes = labels, kept, tuple(notes)

    @property
    def errors(self) -> list[tuple[Any, MlxnbError]]:
        """(label, error) of each row that failed."""
        return [(label, one) for label, one in zip(self.labels, self, strict=True) if isinstance(one, MlxnbError)]

    @property
    def texts(self) -> list[str | None]:
        """The answers as a column has them: None where a row failed, or was not answered to its end. Half a surrogate
        pair, which no column of text takes, is a question mark.
        """
        return [one.text.encode("utf-8", "replace").decode() if _whole(one) else None for one in self]

    def table(self) -> Table:
        """The first rows, those that failed before all others."""
        from ..render import Table

        order = sorted(range(len(self)), key=lambda row: not isinstance(self[row], MlxnbError))[:SHOWN]
        rows = [(str(self.labels[row]), _said(self[row]), _ended(self[row])) for row in order]
        shown = f" · {len(rows)} of them here" if len(rows) < len(self) else ""
        return Table(["row", "answer", "ended"], rows, caption=f"{self.summary()}{shown}")

    def summary(self) -> str:
        """How many rows there are, and what they came to."""
        answered, failed = sum(map(_whole, self)), len(self.errors)
        parts = [plural(len(self), "row"), f"{count(answered)} answered"]
        parts += [f"{count(self.kept)} kept from before"] if self.kept else []
        parts += [f"{count(failed)} failed"] if failed else []
        return " · ".join([*parts, *self.notes])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self.table().mimebundle()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self.table().text())

    def __repr__(self) -> str:
        return f"<Answers: {self.summary()}>"


# What goes with one prompt only.
ALONE = {"last": "--last", "prompt_file": "A prompt file", "n": "--n", "compare": "--compare", "tool": "--tool"}


class TableCell:
    """One cell that asks for every row of what `--each` names.

    Raises:
        OptionError: there is nothing by that name, or nothing to put the answers beside.
        TemplateError: a mistake in the body, or nothing of the row in it.
    """

    def __init__(
        self, options: argparse.Namespace, body: str, names: dict[str, Any], push: Callable[[Any], object]
    ) -> None:
        if options.chat is not None:
            raise OptionError("--chat goes on with one conversation, and --each asks for many rows.", "Leave out one.")
        for name, flag in ALONE.items():
            if getattr(options, name) is not None:
                raise OptionError(f"{flag} asks one thing, and --each asks of every row.", "Leave out one.")
        if options.no_interpolate and body.strip():
            raise OptionError("--no-interpolate would ask the same for every row.", "Leave it out, or the prompt.")
        if options.into and path_of(options.into, "--into") == path_of(options.each, "--each"):
            remedy = "Take another name: after an interrupt there would be nothing to go on from."
            raise OptionError(f"--into {options.into} would put the answers over the rows that --each asks.", remedy)
        source = value_of(options.each, names, "--each")
        self._rows = rows_of(source, f"--each {options.each}")
        if self._rows.spent and not self._rows.cells:  # else the answers of an earlier cell would go for nothing
            raise OptionError(f"--each {options.each} gave no row.", "It was gone through before: make it anew.")
        self._each = options.each
        self._prompt: Callable[[Any], str] = RowTemplate(body, names) if body.strip() else text_of
        self._into = options.into
        self._column = Column(self._into, source, self._rows.labels, names, push) if self._into else None
        self._fresh, self._quiet, self._resumes = options.fresh, options.quiet, False
        self.whole = False
        self._answered = 0

    def run(self, request_of: Callable[[str], Request]) -> Answers:
        """Ask, show how far it is, and put the answers where they belong: after an interrupt too, with `whole` False.

        Raises:
            MlxnbError: no row has an answer; it is the first one's.
        """
        from .. import engine

        def ask(row: Any) -> Request:
            return request_of(self._prompt(row))

        job = engine().map(ask, self._rows.cells, fresh=self._fresh, progress=not self._quiet)
        try:
            for _ in job:
                pass
            self.whole = True
        except KeyboardInterrupt:
            self._settle(job)
        self._resumes = job.keeps
        answers = Answers(job.so_far(), self._rows.labels, job.kept, job.notes)
        self._answered = sum(map(_whole, answers))
        if self.whole and not self._answered and answers.errors:
            raise answers.errors[0][1]
        if self._column is not None:
            self._column.put(answers, answers.texts)
        return answers

    def stopped(self) -> str:
        """How an interrupted cell ends."""
        where = f"the answers so far are in `{self._into or '_'}`"
        total = plural(len(self._rows.cells), "row")
        anew = f"Make {self._each} anew, and run the cell" if self._rows.spent else "Run the cell"
        then = f" {anew} again to go on from there." if self._resumes else ""
        return f"stopped after {count(self._answered)} of {total}; {where}.{then}"

    def _settle(self, job: MapJob) -> None:
        """Wait for the rows that are being finished just now, unless the kernel is interrupted once more."""
        job.cancel()
        try:
            job.wait(GRACE)
        except KeyboardInterrupt:
            return


def _whole(answer: Any) -> bool:
    return isinstance(answer, Result) and answer.finish_reason != "interrupted"


def _said(answer: Any) -> str:
    text = "" if answer is None else answer.text if isinstance(answer, Result) else str(answer)
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _ended(answer: Any) -> Cell:
    from ..render.cells import Dot

    if answer is None:
        return "not asked"
    if isinstance(answer, Result):
        return f"{answer.finish_reason}, kept" if answer.cached else answer.finish_reason
    return Dot("error", type(answer).__name__)
