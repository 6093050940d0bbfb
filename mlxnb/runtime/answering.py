"""Answers jobs on the engine's thread: along a chain of backends, by the caches, alone or in a batch."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from ..backends.base import Backend, Cancelled, LoadedModel
from ..backends.local import LocalModel
from ..backends.memory import clear, let_go, memory_ran_out
from ..backends.panics import panics_as_errors
from ..errors import EngineClosedError, MlxnbError
from ..result import Chunk, Result
from .alarm import Alarm
from .batch_run import BatchRun, by_model
from .caches import Caches
from .drafts import draft_for
from .fallthrough import ended_by, passed_over
from .job import Job
from .loaded import Loaded, LoadedModels
from .outcome import Outcome


class Answering:
    """What the engine's thread does with the engine's models. Every method but `close` belongs to that thread.

    `submit` puts work on it from elsewhere, `closed` tells that the engine takes no more. `jobs` are those that are
    queued or run, in order; `batch` is the one that runs. See Host for what a BatchRun calls.
    """

    def __init__(
        self,
        backends: Mapping[str, Backend],
        models: LoadedModels,
        cache: Caches | None,
        submit: Callable[[Callable[[], object]], object],
        closed: Callable[[], bool],
    ) -> None:
        self.backends, self.models, self.cache = backends, models, cache
        self._submit, self._closed = submit, closed
        self.jobs: list[Job] = []
        self.batch: BatchRun | None = None
        self._asking: Job | None = None  # whose model is being looked for
        self._alarm = Alarm(self._wake)
        models.tell = self._tell

    def close(self) -> None:
        """Cancel everything, and wake up for nothing any more."""
        self._alarm.close()
        for job in list(self.jobs):
            job.cancel()

    def take(self, job: Job) -> None:
        """Answer a job, and end it."""
        with self.using():
            self._run(job)

    def run_batch(self, jobs: list[Job], most: int | None) -> None:
        """Answer jobs together, at most `most` at once, and end them."""
        try:
            for group in by_model(jobs):
                with self.models.steady(), panics_as_errors():
                    while group:
                        self.batch = BatchRun(self, group, most)
                        with self.using():
                            group = self.batch.run()
        except Exception as err:
            for job in jobs:  # nobody may wait for what will never come
                job.finish(None, Outcome(job).failed(err))
            raise
        finally:
            self.batch = None
            for job in jobs:
                if job in self.jobs:
                    self.jobs.remove(job)

    # For BatchRun.

    def loaded_for(self, job: Job) -> tuple[Loaded, float]:
        """See Host."""
        began, before = time.perf_counter(), self.models.loads
        loaded = self._loaded_for(job)
        return loaded, 0.0 if self.models.loads == before else time.perf_counter() - began

    def backend_of(self, loaded: Loaded) -> Backend:
        """See Host."""
        return self.backends[loaded.info.backend]

    def goes_on(self, job: Job, outcome: Outcome, err: Exception) -> bool:
        """See Host."""
        loaded, request = outcome.loaded, job.request
        if loaded is None or not outcome.asked or outcome.began or job.watch.cancelled.is_set():
            return False
        if request.strict:  # also under `auto`, whose chain `get` cuts anew each time, then without what failed
            return False
        why = passed_over(loaded, err)
        if why is None:
            return False
        names = [each.subject for each in (*job.tried, *loaded.passed_over, why)]
        if not self.models.has_others(request.model, request.backend, request.strict, names):
            return False
        let_go(err)
        if memory_ran_out(err) and isinstance(loaded.model, LocalModel):
            loaded.model.give_back()
        if self.batch is None:
            self.models.release(loaded)  # the next backend may need its memory
        job.pass_over((*loaded.passed_over, why))
        job.state = "loading"
        outcome.loaded, outcome.asked = None, False
        return True

    def run_alone(self, job: Job) -> None:
        """See Host."""
        self._run(job)

    def ended(self, job: Job, outcome: Outcome, whole: bool) -> None:
        """See Host."""
        self.jobs.remove(job)
        job.watch.steering = job.watch.logprobs = None  # which holds what the model's vocabulary is
        self._after(job, outcome, whole)

    # How long models stay.

    @contextmanager
    def holding(self, model: LoadedModel) -> Iterator[None]:
        """For work on the engine's thread that goes on in later calls: within, the model is not given back for another,
        nor for its idle time. `unload` still takes it.
        """
        try:
            with self.models.holding(model):
                yield
        finally:
            self._rest()

    @contextmanager
    def using(self) -> Iterator[None]:
        """What is got within stays in memory until the end; then whatever has been idle for long enough goes."""
        try:
            with self.models.in_use():
                yield
        finally:
            self._rest()

    def _rest(self) -> None:
        """Give back what was idle for its keep_alive and is not asked for by what waits; wake up for the next."""
        if self._closed():
            return
        following = self.models.give_back_idle(self._wanted)
        if following is not None:
            self._alarm.set(following)

    def _wanted(self) -> set[str | None]:
        """The models that those who wait ask for."""
        return {name for job in list(self.jobs) for name in (job.request.model, job.request.draft)}

    def _wake(self) -> None:
        with contextlib.suppress(EngineClosedError):  # it was closed just now, and has nothing left to give back
            self._submit(self._rest)

    def _run(self, job: Job) -> None:
        outcome, whole = Outcome(job), False
        try:
            if job.start() and (found := self._along_the_chain(job, outcome)) is not None:
                job.put(Chunk(found.text, None, found.timings.start, found.thinking))
                job.finish(found)
                assert self.cache is not None
                assert outcome.loaded is not None
                self.cache.remember(outcome.loaded.model, job)
                return
            result, error = outcome.ended()
            whole = error is None
            job.finish(result, error)
        except Cancelled:
            job.finish(outcome.so_far())
        except MlxnbError as err:
            clear(err)
            job.finish(None, ended_by(err, job, outcome))
        except Exception as err:  # noqa: BLE001 - one of the three edges: whatever a backend raises becomes the job's error
            clear(err)
            job.finish(None, ended_by(err, job, outcome))
        finally:
            self.jobs.remove(job)
            job.watch.draft = job.watch.steering = job.watch.logprobs = None  # whoever keeps the job keeps no model
            try:
                self._after(job, outcome, whole)
            finally:
                outcome.loaded = None  # nor whoever keeps its error, and with that this frame

    def _after(self, job: Job, outcome: Outcome, whole: bool) -> None:
        """What nobody has to wait for: keep the answer if it came to its end, and the KV state."""
        if self.cache is not None and outcome.loaded is not None and job.watch.start is not None:
            try:
                if whole:
                    self.cache.keep(outcome.loaded.model, job, job.result())
            finally:
                self.cache.finished(outcome.loaded.model, job)
        if whole and self.batch is None and outcome.loaded is not None:
            self.models.ran(outcome.loaded, job.request, job.result())

    def _along_the_chain(self, job: Job, outcome: Outcome) -> Result | None:
        """`_generate`, on the next backend where one fails before the first token."""
        while True:
            try:
                with panics_as_errors():
                    return self._generate(job, outcome)
            except Exception as err:
                if not self.goes_on(job, outcome, err):
                    raise

    def _generate(self, job: Job, outcome: Outcome) -> Result | None:
        """Generate into `outcome`; or the answer as it was kept."""
        began, before = time.perf_counter(), self.models.loads
        outcome.loaded = self._loaded_for(job)
        if self.models.loads > before:
            outcome.load_time += time.perf_counter() - began
        if job.watch.cancelled.is_set():
            return None
        if self.cache is not None:
            found = self.cache.find(outcome.loaded.model, job, outcome.load_time)
            if found is not None:
                return outcome.found(found)
        outcome.load_time += draft_for(self.models, job, outcome.loaded)
        if self.cache is not None:
            self.cache.relieve(outcome.loaded.model, job, self.backends[outcome.loaded.info.backend].memory_free)
        job.state = "prefill"
        outcome.asked = True
        for chunk in outcome.loaded.model.stream(job.request, job.watch):
            job.state = "decode"
            outcome.add(chunk)
            job.put(chunk)
        return None

    def _loaded_for(self, job: Job) -> Loaded:
        request = job.request
        names, self._asking = [each.subject for each in job.tried], job
        try:
            asked = (request.model, request.backend, request.precision, request.strict)
            return self.models.get(*asked, job.loading, names, request.keep_alive)
        finally:
            self._asking = None

    def _tell(self, doing: str) -> None:
        if self._asking is not None:
            self._asking.watch.doing = doing
