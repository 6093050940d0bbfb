"""Runs a batch on the engine's thread: rows join as others finish, as many at once as memory holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from .. import hardware
from ..backends.base import Backend, Cancelled
from ..backends.batch import Batch, Member
from ..backends.local import LocalModel
from ..backends.memory import let_go, memory_ran_out
from ..backends.panics import panics_as_errors
from ..decision import Decision, Rejected
from ..errors import BackendError, MlxnbError
from ..request import Precision
from ..result import Chunk, Result
from .batch_width import Width
from .caches import Caches
from .fallthrough import ended_by
from .in_memory import Loaded
from .job import Job
from .outcome import Outcome
from .worker import report

# At most so many rows at once: a device is busy by then, and each row waits for all the others.
MOST_ROWS = 32

# Of the memory that is free now, what the rows may come to take: a buffer that grows is there twice for a moment.
SHARE = 0.5

# How the note of a row begins that had to wait for memory.
SHORT = "memory ran short"


class Host(Protocol):
    """What a batch needs of the engine."""

    cache: Caches | None

    def loaded_for(self, job: Job) -> tuple[Loaded, float]:
        """The model of a request, and the seconds that loading it took now."""

    def backend_of(self, loaded: Loaded) -> Backend:
        """The backend that a model is on."""

    def goes_on(self, job: Job, outcome: Outcome, err: Exception) -> bool:
        """Whether a job that failed has another backend of its chain to go to; if so it is ready to be run there."""

    def run_alone(self, job: Job) -> None:
        """Answer a job that was started, and end it."""

    def ended(self, job: Job, outcome: Outcome, whole: bool) -> None:
        """A job is settled; `whole` where its answer came to its end."""


class Live:
    """A job on its way through a batch; `member` once it was prefilled."""

    def __init__(self, job: Job, loaded: Loaded, model: LocalModel, load_time: float) -> None:
        self.job, self.loaded, self.model = job, loaded, model
        self.outcome = Outcome(job)
        self.outcome.loaded, self.outcome.load_time = loaded, load_time
        self.longest = model.longest(job.request)
        self.member: Member | None = None

    def wait(self) -> None:
        """Wait for room; what is cancelled meanwhile ends with the text so far."""
        self.job.queue_again(self._so_far)

    def _so_far(self, job: Job) -> Result:
        job.watch.finish_reason = "interrupted"
        return self.outcome.result()


class BatchRun:
    """The jobs of one batch that ask the same model on the same backend in the same precision; at most `most` of them
    at once, where a person has said so.
    """

    def __init__(self, host: Host, jobs: Iterable[Job], most: int | None = None) -> None:
        self._host = host
        self._waiting = deque(jobs)
        self._ready: deque[Live] = deque()  # looked up in the caches, and waiting for room
        self._alone: list[Job] = []
        self._elsewhere: list[Job] = []
        self._running: dict[int, Live] = {}  # by id of the member
        self._batch: Batch | None = None
        self._width = Width(min(MOST_ROWS, most or MOST_ROWS))
        self.loaded: Loaded | None = None  # what all of them run on, once one of them has it

    def run(self) -> list[Job]:
        """Answer them; whatever fails ends in the job that it is of. Those that turned out to have another model are
        left, and returned.
        """
        try:
            while self._waiting or self._ready or self._running:
                self._fill()
                self._step()
        finally:
            if self._batch is not None:
                self._batch.close()
        for job in self._alone:
            try:
                self._host.run_alone(job)
            except Exception:  # noqa: BLE001 - an edge, as for `ended`
                report()
        return self._elsewhere

    # Rows that come.

    def _fill(self) -> None:
        while (live := self._ready.popleft() if self._ready else self._next()) is not None:
            if live.job.state == "done":  # cancelled while it waited
                self._ended(live.job, live.outcome)
            elif not self._room(live):
                live.wait()
                self._ready.appendleft(live)
                return
            else:
                self._join(live)

    def _next(self) -> Live | None:
        """The next job that has to be computed in the batch; those before it are settled, or run later."""
        while self._waiting:
            job = self._waiting.popleft()
            outcome = Outcome(job)
            if not job.start():
                self._ended(job, outcome)
                continue
            with self._edge(job, outcome):
                live = self._looked_up(job, outcome)
                if live is not None:
                    return live
        return None

    def _looked_up(self, job: Job, outcome: Outcome) -> Live | None:
        """A job with its model; None where it is answered from the cache, or cannot be batched."""
        outcome.loaded, outcome.load_time = loaded, load_time = self._host.loaded_for(job)
        model, cache = loaded.model, self._host.cache
        if job.watch.cancelled.is_set():
            raise Cancelled
        if self.loaded is None:
            self.loaded = loaded
        elif model is not self.loaded.model:  # `strict` has a chain of its own, and what is in memory may change
            self._later(job, self._elsewhere)
            return None
        kept = cache.find(model, job, load_time) if cache is not None else None
        if kept is not None and cache is not None:
            found = outcome.found(kept)
            job.put(Chunk(found.text, None, found.timings.start, found.thinking))
            job.finish(found)
            cache.remember(model, job)
            self._ended(job, outcome)
            return None
        verdict = self._batchable(loaded, job)
        if isinstance(verdict, Rejected):
            if job.request.strict:
                remedy = f"Ask it by itself, or {verdict.remedy}." if verdict.remedy else "Ask it by itself."
                raise BackendError(f"This request cannot run in a batch: {verdict.reason}.", remedy)
            job.watch.notes.append(f"not batched: {verdict.reason}")
            self._later(job, self._alone)
            return None
        assert isinstance(model, LocalModel)
        return Live(job, loaded, model, load_time)

    def _later(self, job: Job, where: list[Job]) -> None:
        where.append(job)
        job.queue_again()

    def _batchable(self, loaded: Loaded, job: Job) -> Decision:
        if not isinstance(loaded.model, LocalModel):
            return Rejected("batch", f"the {loaded.info.backend} backend computes one at a time")
        if job.request.draft is not None:
            return Rejected("batch", "what a draft guesses is verified for one answer at a time", "leave out draft")
        return loaded.model.batchable(job.request)

    def _room(self, live: Live) -> bool:
        """Whether one more row fits beside those that run, all of them at their end."""
        if self._batch is None or not self._running:
            return True
        if len(self._running) >= self._width.rows:
            return False
        on_device = self._host.backend_of(live.loaded).memory_free()
        free = hardware.memory_free() if on_device is None else on_device
        return self._batch.after(live.longest) <= (free + self._batch.nbytes()) * SHARE

    def _join(self, live: Live) -> None:
        if live.job.state == "queued" and not live.job.start():  # it waited, and was cancelled just now
            self._ended(live.job, live.outcome)
            return
        given: Iterable[tuple[Member, int]] = ()
        with self._edge(live.job, live.outcome):
            try:
                given = self._joined(live)
            except Exception as err:
                if not memory_ran_out(err) or not self._running:
                    raise
                self._short(live, f"with {len(self._running)} others running: this one waited until there was room")
                self._width.short(len(self._running))
        self._take(given)

    def _joined(self, live: Live) -> Iterable[tuple[Member, int]]:
        job, model = live.job, live.model
        if job.watch.cancelled.is_set():
            raise Cancelled
        job.state, live.outcome.asked = "prefill", True
        if live.member is None:
            if self._host.cache is not None:
                self._host.cache.relieve(model, job, self._host.backend_of(live.loaded).memory_free)
            live.member = model.member(job.request, job.watch)
        if self._batch is None:
            self._batch = model.new_batch()
        given = self._batch.join(live.member)
        self._running[id(live.member)] = live
        return given

    # Tokens.

    def _step(self) -> None:
        if self._batch is None or not self._running:
            return
        try:
            with panics_as_errors():
                given = self._batch.step()
        except Exception as err:  # noqa: BLE001 - an edge: whatever a backend raises is the error of those in the batch
            self._broke(err)
            return
        self._take(given)
        self._width.step()

    def _take(self, given: Iterable[tuple[Member, int]]) -> None:
        """Hand tokens to their rows. What a row makes of its token, and who hears of it, is its own affair: a row that
        fails leaves the batch, and the others go on.
        """
        over: list[tuple[Live, bool]] = []  # with whether its answer came to an end
        for member, token in given:
            live = self._running[id(member)]
            live.job.state = "decode"
            going = True
            with self._edge(live.job, live.outcome):
                going = self._fed(live, member, token)
            if not going:
                over.append((live, live.job.watch.finish_reason != "interrupted"))
            elif live.job.state == "done":
                over.append((live, False))
        self._leave([live for live, _ in over])
        for live, whole in over:
            if live.job.state != "done":
                self._settle(live, whole)

    def _settle(self, live: Live, whole: bool) -> None:
        with self._edge(live.job, live.outcome):
            result, error = live.outcome.ended()
            live.job.finish(result, error)
            self._ended(live.job, live.outcome, whole and error is None)

    def _fed(self, live: Live, member: Member, token: int) -> bool:
        """Whether the row goes on after its next token."""
        member.made.append(token)
        live.outcome.began = True
        self._put(live, member.row.feed(token))
        if member.over():
            self._put(live, member.row.finish())
            return False
        return True

    def _put(self, live: Live, chunk: Chunk | None) -> None:
        if chunk is not None:
            live.outcome.add(chunk)
            live.job.put(chunk)

    def _leave(self, over: list[Live]) -> None:
        members = [live.member for live in over if live.member is not None]
        for member in members:
            del self._running[id(member)]
        if members and self._batch is not None:
            try:
                self._batch.leave(members)
            except Exception as err:  # noqa: BLE001 - an edge, as for a step
                self._broke(err)

    # Trouble.

    def _broke(self, err: Exception) -> None:
        """A step failed, so nothing that was in the batch can be trusted: all of it goes. Where memory ran short the
        rows come again, half as many at once, and go on where they were.
        """
        going = list(self._running.values())
        self._running = {}
        let_go(err)  # of the tensors of the step
        if self._batch is not None:
            self._batch.close()
        self._batch = None
        if going:
            going[0].model.give_back()
        if memory_ran_out(err) and len(going) > 1:
            self._width.short(len(going) // 2)
            for live in reversed(going):
                rows = self._width.rows
                self._short(live, f"with {len(going)} rows at once: at most {rows} went on together")
            return
        for live in going:
            with self._edge(live.job, live.outcome):
                raise err

    def _short(self, live: Live, what: str) -> None:
        if not any(note.startswith(SHORT) for note in live.job.watch.notes):  # once is enough, however often it waits
            live.job.watch.notes.append(f"{SHORT} {what}")
        live.model.give_back()
        live.wait()
        self._ready.appendleft(live)

    def _ended(self, job: Job, outcome: Outcome, whole: bool = False) -> None:
        try:
            self._host.ended(job, outcome, whole)
        except Exception:  # noqa: BLE001 - an edge: it is answered, and what could not be kept of it hurts no other
            report()

    @contextmanager
    def _edge(self, job: Job, outcome: Outcome) -> Iterator[None]:
        """Whatever is raised inside becomes the end of the job."""
        try:
            with panics_as_errors():
                yield
        except Cancelled:
            job.watch.finish_reason = "interrupted"
            job.finish(outcome.so_far())
        except MlxnbError as err:
            let_go(err)
            if self._goes_on(job, outcome, err):
                return
            job.finish(None, ended_by(err, job, outcome))
        except Exception as err:  # noqa: BLE001 - an edge, as in the engine: a backend's error becomes the job's
            let_go(err)
            if self._goes_on(job, outcome, err):
                return
            job.finish(None, ended_by(err, job, outcome))
        else:
            return
        self._ended(job, outcome)

    def _goes_on(self, job: Job, outcome: Outcome, err: Exception) -> bool:
        """Whether a row that failed before its first token is left for a batch on the next backend of its chain."""
        if not self._host.goes_on(job, outcome, err):
            return False
        self._later(job, self._elsewhere)
        return True


def by_model(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs grouped by what is loaded for them, as far as they say, in the order of the first of each."""
    groups: dict[tuple[str, str, Precision, bool], list[Job]] = {}
    for job in jobs:
        asked = job.request
        groups.setdefault((asked.model, asked.backend, asked.precision, asked.strict), []).append(job)
    return list(groups.values())
