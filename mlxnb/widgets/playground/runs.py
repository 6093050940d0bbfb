"""The runs of the playground: what was asked, with which setting, and what came of it, as rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import MlxnbError
from ...render.cells import Cell
from ...render.table import Table
from ...render.text import one_row, shortened
from ...result import Result

if TYPE_CHECKING:
    from ...request import Request

KEPT = 50  # runs that the history holds
SHORT, SHORTER = 40, 24  # characters of a prompt in the table and in the list
COLUMNS = (
    "run", "prompt", "asked with", "on", "tokens", ("rate", "tok/s"), ("first token", "ms"), "reused", "ended",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked: the request, its setting in words, and the cell that asks the same. `place` is 1 where there is a
    second setting beside the first and this is it.
    """

    request: Request
    words: str
    cell: str
    place: int = 0

    @property
    def prompt(self) -> str:
        """The prompt as it was typed."""
        return self.request.messages[-1].content


@dataclass(frozen=True, slots=True)
class Run:
    """One of them, and what came of it."""

    number: int
    asked: Asked
    answer: Result | MlxnbError

    @property
    def label(self) -> str:
        """It in a list to choose from."""
        prompt = shortened(one_row(self.asked.prompt), SHORTER)
        return f"{self.number}: {prompt} · {shortened(one_row(self.asked.words), SHORT)}"

    def row(self) -> tuple[Cell, ...]:
        """It in the table."""
        asked = str(self.number), shortened(one_row(self.asked.prompt), SHORT), self.asked.words
        if isinstance(self.answer, MlxnbError):
            return (*asked, None, None, None, None, None, self.answer.message)
        result, p, t = self.answer, self.answer.provenance, self.answer.timings
        where, ended = f"{p.backend} {p.device}".strip(), result.finish_reason
        if result.cached:  # its timings are those of finding it again
            return (*asked, where, result.generation_tokens, None, None, None, f"{ended}, cached")
        ttft = None if t.ttft is None else round(1000 * t.ttft, 1)
        return (*asked, where, result.generation_tokens, t.decode_rate, ttft, p.reused_tokens or None, ended)


def runs_table(runs: list[Run]) -> Table:
    """The runs, the last one first."""
    return Table(COLUMNS, [run.row() for run in reversed(runs)], caption="Runs, the last one first")
