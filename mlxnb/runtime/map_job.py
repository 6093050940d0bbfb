"""A table on its way through the engine: answers in the rows' order, kept on disk as they finish."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from threading import Condition, Thread

from ..errors import MlxnbError
from ..request import Request
from ..result import Result
from .batch import PERIOD, Answer, BatchJob, Pace, Progress
from .job import WAKE
from .kept_rows import KeptRows
from .worker import report

Show = Callable[[Progress], object] | None


class MapJob:
    """Handle of a table's rows. Iterating gives the answer of each in order, a Result or the MlxnbError that it failed
    with; leaving the loop early cancels the rest. `list(job)` waits for all. Every method may be called from any
    thread.

    `kept`: how many rows an earlier run had answered.
    """

    def __init__(
        self,
        asked: Sequence[Request | MlxnbError],
        rows: KeptRows,
        submit: Callable[[list[Request]], BatchJob],
        showing: Callable[[], AbstractContextManager[Show]],
    ) -> None:
        found = rows.find()
        self._answers: list[Answer | None] = [
            part if isinstance(part, MlxnbError) else found.get(row) for row, part in enumerate(asked)
        ]
        self._rows, self._showing = rows, showing
        self.kept = len(found)
        self._unasked = len(asked) - sum(answer is None for answer in self._answers) - self.kept
        self._todo = [row for row, answer in enumerate(self._answers) if answer is None]
        self._batch = submit([part for row in self._todo if isinstance(part := asked[row], Request)])
        self._settled = Condition()
        self._over = False
        # Rows are kept on a thread of their own: the engine's must not wait for the disk, and who asked may be late.
        Thread(target=self._follow, name="mlxnb-rows", daemon=True).start()

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self) -> Iterator[Answer]:
        try:
            with self._showing() as show:
                pace = Pace(show) if show is not None else None
                for row in range(len(self)):
                    yield self._wait_for(row, pace)
                if show is not None:
                    show(self.progress())
        except BaseException:  # the loop was left early, or interrupted
            self.cancel()
            raise

    def so_far(self) -> list[Answer | None]:
        """What there is of each row, None where nothing is yet; never waits. Of a row that was cancelled it is a
        Result that says `interrupted`, with its text so far.
        """
        with self._settled:
            return list(self._answers)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all rows are answered and kept, at most `timeout` seconds; whether they are."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._settled:
            while not self._over:
                left = WAKE if end is None else min(WAKE, end - time.monotonic())
                if left <= 0:
                    return False
                self._settled.wait(left)
        return True

    def cancel(self) -> None:
        """Stop between two tokens: what is finished is kept, on disk too."""
        self._batch.cancel()

    def progress(self) -> Progress:
        """How far it is; never waits."""
        now, before = self._batch.progress(), self.kept + self._unasked
        return now._replace(done=now.done + before, total=len(self), failed=now.failed + self._unasked, kept=self.kept)

    @property
    def keeps(self) -> bool:
        """Whether a later run goes on where this one stops."""
        return self._rows.keeps

    @property
    def notes(self) -> tuple[str, ...]:
        """Why rows are not kept on disk, where some are not."""
        return tuple(f"{number} not kept on disk: {why}" for why, number in self._rows.refused.items())

    def _wait_for(self, row: int, pace: Pace | None) -> Answer:
        for job in self._batch.jobs[:1]:
            job.check_thread()
        with self._settled:
            while (answer := self._answers[row]) is None:
                if self._over:
                    raise RuntimeError("The thread that keeps the rows ended before they were answered.")
                self._settled.wait(WAKE if pace is None else PERIOD)
                if pace is not None:
                    pace(self.progress)
        return answer

    def _follow(self) -> None:
        try:
            for index, answer in self._batch:
                self._settle(self._todo[index], answer)
        finally:
            with self._settled:
                self._over = True
                self._settled.notify_all()

    def _settle(self, row: int, answer: Answer) -> None:
        try:
            if isinstance(answer, Result):
                self._rows.keep(row, answer)
            if not self._batch.more:
                self._rows.sync()
        except Exception:  # noqa: BLE001 - an edge: it is answered, and what cannot be kept of it hurts no other
            report()
        with self._settled:
            self._answers[row] = answer
            self._settled.notify_all()
