"""Runs a batch on the engine's thread: rows join as others finish, as many at once as memory holds."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from .. import hardware
from ..backends.base import Backend, Cancelled
from ..backends.batch import Batch, Member
from ..backends.local import LocalModel
from ..backends.memory import memory_ran_out
from ..decision import Decision, Rejected
from ..errors import BackendError, MlxnbError
from ..request import Precision
from ..result import Chunk
from .caches import Caches
from .job import Job
from .loaded import Loaded
from .outcome import Outcome

# At most so many rows at once: a device is busy by then, and each row waits for all the others.
MOST_ROWS = 32

# Of the memory that is free now, what the rows may come to take: a buffer that grows is there twice for a moment.
SHARE = 0.5

# Steps without trouble after which twice as many rows are tried again.
GROW_AFTER = 64


class Host(Protocol):
    """What a batch needs of the engine."""

    cache: Caches | None

    def loaded_for(self, job: Job) -> tuple[Loaded, float]:
        """The model of a request, and the seconds that loading it took now."""

    def backend_of(self, loaded: Loaded) -> Backend:
        """The backend that a model is on."""

    def run_alone(self, job: Job) -> None:
        """Answer a job that was started, and end it."""

    def ended(self, job: Job, outcome: Outcome, whole: bool) -> None:
        """A job is settled; `whole` where its answer came to its end."""


class Live:
    """A job on its way through a batch; `member` once it was prefilled."""

    def __init__(self, job: Job, loaded: Loaded, model: LocalModel, load_time: float) -> None:
        self.job, self.model = job, model
        self.outcome = Outcome(job)
        self.outcome.loaded, self.outcome.load_time = loaded, load_time
        self.needed = model.needed(job.request)
        self.member: Member | None = None


class BatchRun:
    """The jobs of one batch that ask the same model on the same backend in the same precision."""

    def __init__(self, host: Host, jobs: Iterable[Job]) -> None:
        self._host = host
        self._waiting = deque(jobs)
        self._ready: deque[Live] = deque()  # looked up in the caches, and waiting for room
        self._alone: list[Job] = []
        self._running: dict[int, Live] = {}  # by id of the member
        self._batch: Batch | None = None
        self._width, self._calm = MOST_ROWS, 0

    def run(self) -> None:
        """Answer all of them; whatever fails ends in the job that it is of."""
        try:
            while self._waiting or self._ready or self._running:
                self._fill()
                self._step()
        finally:
            if self._batch is not None:
                self._batch.close()
        for job in self._alone:
            self._host.run_alone(job)

    # Rows that come.

    def _fill(self) -> None:
        while True:
            live = self._ready.popleft() if self._ready else self._next()
            if live is None:
                return
            if not self._room(live):
                self._ready.appendleft(live)
                return
            self._join(live)

    def _next(self) -> Live | None:
        """The next job that has to be computed in the batch; those before it are settled, or run alone later."""
        while self._waiting:
            job = self._waiting.popleft()
            outcome = Outcome(job)
            if not job.start():
                self._host.ended(job, outcome, whole=False)
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
        found = cache.find(model, job, load_time) if cache is not None else None
        if found is not None and cache is not None:
            job.put(Chunk(found.text, None, found.timings.start, found.thinking))
            job.finish(found)
            cache.remember(model, job)
            self._host.ended(job, outcome, whole=False)
            return None
        verdict = self._batchable(loaded, job)
        if isinstance(verdict, Rejected):
            if job.request.strict:
                raise BackendError(f"This request cannot run in a batch: {verdict.reason}.", "Ask it by itself.")
            job.watch.notes.append(f"not batched: {verdict.reason}")
            self._alone.append(job)
            return None
        assert isinstance(model, LocalModel)
        return Live(job, loaded, model, load_time)

    def _batchable(self, loaded: Loaded, job: Job) -> Decision:
        if not isinstance(loaded.model, LocalModel):
            return Rejected("batch", f"the {loaded.info.backend} backend computes one at a time")
        if job.request.draft is not None:
            return Rejected("batch", "what a draft guesses is verified for one answer at a time", "leave out draft")
        return loaded.model.batchable(job.request)

    def _room(self, live: Live) -> bool:
        """Whether one more row fits beside those that run. All rows are as long as the longest comes to be."""
        rows = len(self._running) + 1
        if rows == 1:
            return True
        if rows > self._width:
            return False
        on_device = self._host.backend_of(self._loaded(live)).memory_free()
        free = hardware.memory_free() if on_device is None else on_device
        held = self._batch.nbytes() if self._batch is not None else 0
        longest = max(other.needed for other in [live, *self._running.values()])
        return rows * longest <= (free + held) * SHARE

    def _loaded(self, live: Live) -> Loaded:
        assert live.outcome.loaded is not None
        return live.outcome.loaded

    def _join(self, live: Live) -> None:
        with self._edge(live.job, live.outcome):
            try:
                self._joined(live)
            except Exception as err:
                if not memory_ran_out(err) or not self._running:
                    raise
                self._short(live, f"with {len(self._running)} others running: this one waited until there was room")
                self._width = max(1, len(self._running))

    def _joined(self, live: Live) -> None:
        job, model = live.job, live.model
        if job.watch.cancelled.is_set():
            raise Cancelled
        if live.member is None:
            job.state = "prefill"
            if self._host.cache is not None:
                self._host.cache.relieve(model, job, self._host.backend_of(self._loaded(live)).memory_free)
            live.member = model.member(job.request, job.watch)
        if self._batch is None:
            self._batch = model.new_batch()
        given = self._batch.join(live.member)
        self._running[id(live.member)] = live
        if given:
            self._take(given)

    # Tokens.

    def _step(self) -> None:
        if self._batch is None or not self._running:
            return
        try:
            self._take(self._batch.step())
        except Exception as err:  # noqa: BLE001 - an edge: whatever a backend raises is the error of those in the batch
            self._broke(err)
            return
        self._calm += 1
        if self._calm >= GROW_AFTER and self._width < MOST_ROWS:
            self._width, self._calm = min(MOST_ROWS, 2 * self._width), 0

    def _take(self, given: Iterable[tuple[Member, int]]) -> None:
        assert self._batch is not None
        over = []
        for member, token in given:
            live = self._running[id(member)]
            live.job.state = "decode"
            member.made.append(token)
            self._put(live, member.row.feed(token))
            if member.over():
                over.append(member)
        for member in over:
            live = self._running.pop(id(member))
            self._put(live, member.row.finish())
            live.job.finish(live.outcome.result())
            self._host.ended(live.job, live.outcome, whole=live.job.watch.finish_reason != "interrupted")
        if over:
            self._batch.leave(over)

    def _put(self, live: Live, chunk: Chunk | None) -> None:
        if chunk is not None:
            live.outcome.add(chunk)
            live.job.put(chunk)

    # Trouble.

    def _broke(self, err: Exception) -> None:
        """A step failed, so nothing that was in the batch can be trusted: all of it goes. Where memory ran short the
        rows come again, half as many at once, and go on where they were.
        """
        going = list(self._running.values())
        self._running = {}
        traceback.clear_frames(err.__traceback__)  # which hold the tensors of the step
        self._drop(going[0].model)
        if memory_ran_out(err) and len(going) > 1:
            self._width, self._calm = max(1, len(going) // 2), 0
            for live in reversed(going):
                self._short(live, f"with {len(going)} rows at once: at most {self._width} went on together")
            return
        for live in going:
            with self._edge(live.job, live.outcome):
                raise err

    def _drop(self, model: LocalModel) -> None:
        if self._batch is not None:
            self._batch.close()
        self._batch = None
        model.give_back()

    def _short(self, live: Live, what: str) -> None:
        live.job.watch.notes.append(f"memory ran short {what}")
        live.model.give_back()
        self._ready.appendleft(live)

    @contextmanager
    def _edge(self, job: Job, outcome: Outcome) -> Iterator[None]:
        """Whatever is raised inside becomes the end of the job."""
        try:
            yield
        except Cancelled:
            job.watch.finish_reason = "interrupted"
            job.finish(outcome.result())
        except MlxnbError as err:
            job.finish(None, err)
        except Exception as err:  # noqa: BLE001 - an edge, as in the engine: a backend's error becomes the job's
            traceback.clear_frames(err.__traceback__)
            job.finish(None, outcome.failed(err))
        else:
            return
        self._host.ended(job, outcome, whole=False)


def by_model(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs grouped by what is loaded for them, in the order of the first of each."""
    groups: dict[tuple[str, str, Precision], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.request.model, job.request.backend, job.request.precision), []).append(job)
    return list(groups.values())
