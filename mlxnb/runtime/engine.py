"""The engine: takes Requests from any thread, runs them in order on its own, and gives back Results."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from .. import hardware
from ..backends import default_backends
from ..backends.base import Backend, Cancelled, LoadedModel, ModelInfo
from ..backends.local import LocalModel
from ..backends.memory import memory_ran_out
from ..backends.perplexity import Perplexity, Text, in_tokens, perplexity
from ..backends.rates import rate_book
from ..backends.select import candidates
from ..config import batch_size, settings
from ..errors import BackendError, EngineClosedError, MlxnbError
from ..models import resolve
from ..models.entry import Entry
from ..models.recommended import Recommended
from ..request import Message, Precision, Request, check_keep_alive
from ..result import Chunk, Result
from .alarm import Alarm
from .batch import Answer, BatchJob, as_jobs
from .batch_run import BatchRun, by_model
from .caches import Caches
from .drafts import draft_for
from .fallthrough import ended_by, passed_over
from .here import models_here, recommended_here
from .job import Job
from .let_go import let_go
from .loaded import Loaded, LoadedModels, once
from .outcome import Outcome
from .remedies import Recommendation, recommendations
from .residency import Resident
from .signature import names_its_options
from .standing import Standing, standings
from .worker import Worker

T = TypeVar("T")
Prompt = str | Sequence[Message | Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Status:
    """What the engine is doing. Memory in bytes: of the machine, and free in it now."""

    loaded: tuple[ModelInfo, ...]
    running: str | None
    queued: int
    memory_free: int
    memory_total: int


class Engine:
    """Runs models for every front of this process. Options are those of Request and Sampling, by the same names."""

    def __init__(self, backends: Mapping[str, Backend] | None = None, *, caching: bool = True) -> None:
        self.backends: dict[str, Backend] = dict(backends if backends is not None else default_backends())
        self._worker = Worker("mlxnb-engine")
        # Without `caching` nothing is looked up or kept, in memory or on disk, whatever a request says.
        self.cache = Caches(self.call) if caching else None
        self._models = LoadedModels(self.backends, self.cache, rate_book() if caching else None)
        self._alarm = Alarm(self._wake)
        self._jobs: list[Job] = []  # queued and running, in order
        self._batch: BatchRun | None = None  # the one that runs
        self._asking: Job | None = None  # whose model is being looked for
        self._models.tell = self._tell
        self._closed = False
        self._pid = os.getpid()

    @names_its_options
    def generate(self, prompt: Prompt, **options: Any) -> Result:
        """Generate and wait for the Result.

        Args:
            prompt: a string, or messages as `{"role", "content"}` mappings.
            **options: `model`, `backend`, `system`, `raw`, `stop`, `strict`, `dtype`, `quantize`, `max_tokens` and
                the sampling fields; see `Request.of`.

        Raises:
            MlxnbError: the request, the model or the backend cannot be used.
        """
        return self.stream(prompt, **options).result()

    @names_its_options
    def stream(self, prompt: Prompt, **options: Any) -> Job:
        """Start generating; iterate the Job for Chunks. Leaving the loop early cancels."""
        return self.submit(Request.of(prompt, **options))

    @names_its_options
    def chat(self, messages: Prompt, **options: Any) -> Result:
        """Answer a conversation, a list of messages that ends with the user's."""
        return self.generate(messages, **options)

    @names_its_options
    async def agenerate(self, prompt: Prompt, **options: Any) -> Result:
        """`generate` for async code; cancelling the task cancels the generation."""
        loop, job = asyncio.get_running_loop(), self.stream(prompt, **options)
        done = asyncio.Event()

        def wake(_: Job) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed without waiting for this task
                loop.call_soon_threadsafe(done.set)

        job.on_done(wake)
        try:
            await done.wait()
        finally:
            job.cancel()
        return job.result()

    def submit(self, request: Request) -> Job:
        """Queue a Request behind those that came before it.

        Raises:
            EngineClosedError: after `close`.
        """
        self._check_open()
        job = self._job(request)
        self._jobs.append(job)
        try:
            self._worker.submit(lambda: self._take(job))
        except EngineClosedError:
            self._jobs.remove(job)
            raise
        return job

    @names_its_options
    def batch(self, prompts: Iterable[Prompt | Request], **options: Any) -> list[Answer]:
        """Answer many prompts at once, in their order: for each its Result, or the MlxnbError that it failed with.

        As many are computed together as memory holds; one that finishes makes room for the next. What the prompts have
        in common is computed once: the KV state of each prompt is kept before the next begins (that of an answer is
        not). Greedy answers in
        float32 are those that `generate` gives. Number formats that round more may choose otherwise between two tokens
        that are almost equally likely, since a sum over another number of rows is rounded in another order.

        Args:
            prompts: strings, lists of messages, or Requests, which keep options of their own.
            **options: as for `generate`, for every prompt that is no Request.
        """
        return self.submit_batch(prompts, **options).results()

    @names_its_options
    def submit_batch(self, prompts: Iterable[Prompt | Request], **options: Any) -> BatchJob:
        """Queue many prompts, see `batch`, as one piece of work; iterate the BatchJob for (index, Result or error).

        Raises:
            OptionError: an option that no prompt could be asked with, one string in the place of prompts, or a setting
                batch_size that is no number.
            PromptError: options that go with no prompt, such as `raw` with `system`.
            BackendMissingError: the backend that is named cannot run here.
            EngineClosedError: after `close`.
        """
        self._check_open()
        most = batch_size()
        batch = BatchJob(as_jobs(prompts, options, self._job, self._check_backend))
        batch.follow()
        jobs = batch.jobs
        self._jobs += jobs
        try:
            self._worker.submit(lambda: self._run_batch(jobs, most))
        except EngineClosedError:
            for job in jobs:
                self._jobs.remove(job)
            raise
        return batch

    def load(
        self,
        name: str,
        backend: str = "auto",
        dtype: str | None = None,
        quantize: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        strict: bool = False,
        keep_alive: float | str | None = None,
        pin: bool | None = None,
    ) -> ModelInfo:
        """Load a model ahead of its first request. `progress` hears of a download: bytes done and in all.

        `keep_alive`: seconds that it stays when idle, or "forever". `pin`: whether it stays when another model needs
        its memory, see `keep`; None leaves what holds.

        What could not be done as asked is in the `refused` and the `notes` of what it gives; with `strict` it raises.

        Raises:
            ModelError, BackendError: it cannot be loaded.
            OptionError: there is no such backend or dtype, or nothing to quantise to by that name; with `strict` also
                where the model could not be quantised as asked, and then it is not kept.
        """
        self._check_open()
        precision, keep_alive = Precision(dtype, quantize), check_keep_alive(keep_alive)

        def watched(done: int, total: int) -> None:
            if self._closed:
                raise Cancelled
            if progress is not None:
                progress(done, total)

        def now() -> ModelInfo:
            with self._using():
                loaded = self._models.get(name, backend, precision, strict, watched, keep_alive=keep_alive)
                if pin is not None:
                    self._models.keep(name, pin)
            return replace(loaded.info, notes=(*loaded.info.notes, *loaded.notes)) if loaded.notes else loaded.info

        try:
            return self._worker.call(now)
        except Cancelled:
            raise EngineClosedError(f"The engine was closed while {name} was being fetched.") from None

    def keep(self, name: str, pinned: bool = True) -> list[ModelInfo]:
        """Pin a model that is in memory: it stays when it is idle, and when another one needs its memory; only `unload`
        takes it. With `pinned` False it may go again. What was pinned, on every backend it is loaded on.

        Raises:
            ModelNotFoundError: it is not loaded.
        """

        def now() -> list[ModelInfo]:
            with self._using():
                return self._models.keep(name, pinned)

        return self.call(now)

    def residents(self) -> list[Resident]:
        """The models in memory with how long they have been idle, when they go, and whether they are pinned."""
        return self._models.residents()

    def unload(self, name: str) -> list[ModelInfo]:
        """Give a model's memory back, on every backend it is loaded on; what was unloaded.

        Raises:
            ModelNotFoundError: it is not loaded.
            BackendError: a batch that runs needs it: only what the batch itself calls can meet it so.
        """
        self._check_open()

        def now() -> list[ModelInfo]:
            in_use = self._batch.loaded if self._batch is not None else None
            if in_use is not None and in_use.goes_by(name):
                raise BackendError(f"{name} is answering a batch.", "Unload it when the batch is done.")
            return self._models.unload(name)

        return self._worker.call(now)

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` on the engine's thread, behind what is queued, and wait for what it returns or raises."""
        self._check_open()
        return self._worker.call(function)

    def later(self, function: Callable[[], object]) -> None:
        """Run `function`, which must not raise, on the engine's thread behind what is queued; waits for nothing."""
        self._check_open()
        self._worker.submit(function)

    def call_with(
        self,
        name: str,
        function: Callable[[LoadedModel], T],
        backend: str = "auto",
        dtype: str | None = None,
        quantize: str | None = None,
    ) -> T:
        """`call` for a function of a model, which is loaded if it is not.

        Raises:
            ModelError, BackendError: it cannot be loaded.
            OptionError: there is no such backend or dtype, or nothing to quantise to by that name.
        """
        precision = Precision(dtype, quantize)

        def used() -> T:
            with self._using():
                return function(self._models.get(name, backend, precision).model)

        return self.call(used)

    def perplexity(
        self,
        texts: Text | Iterable[Text],
        *,
        model: str = "pocket",
        backend: str = "auto",
        dtype: str | None = None,
        quantize: str | None = None,
    ) -> Perplexity:
        """How well a model predicts texts; lower is better. To compare precisions of one model, or models that share a
        tokenizer.

        Args:
            texts: strings, or pairs of a prompt and its answer, of which the answer counts.
            model, backend, dtype, quantize: as for `generate`.

        Raises:
            PromptError: a text is none, or longer than the model's context.
            BackendError: the backend does not tell how likely a token is.
        """
        given = [texts] if isinstance(texts, str | tuple) else list(texts)

        def measure(loaded: LoadedModel) -> Perplexity:
            if not isinstance(loaded, LocalModel):
                raise BackendError(f"{loaded.info.backend} does not tell how likely a token is.", "Take mlx or torch.")
            return perplexity(loaded, [in_tokens(loaded, text) for text in given])

        return self.call_with(model, measure, backend, dtype, quantize)

    def inventory(self, context: int | None = None) -> list[Entry]:
        """The models on this machine, each with its size, shape and whether it fits with a context of so many tokens,
        None for 4,096. Reads headers only; one that is damaged says so.
        """
        return models_here(self.backends, context)

    def recommend(self, use: str = "chat", context: int | None = None) -> list[Recommended]:
        """Models to take for a use ("chat", "code", "reasoning" or "drafting") on this machine as it is now, from the
        catalogue, the best first.

        Raises:
            OptionError: there is no such use.
        """
        return recommended_here(self.backends, use, context)

    def backends_table(
        self,
        model: str = "pocket",
        *,
        dtype: str | None = None,
        quantize: str | None = None,
        measure: bool = False,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> list[Standing]:
        """Every backend with what it needs for a model, and how fast it was measured with it, in the order that `auto`
        takes them. Nothing is downloaded.

        Args:
            model, dtype, quantize: as for `generate`.
            measure: measure each backend that is ready first. It loads the model on one after the other.
            progress: hears of backends done, backends in all and what is under way; what it raises ends it.

        Raises:
            OptionError: there is no such dtype, or nothing to quantise to by that name.
        """
        precision, here = Precision(dtype, quantize), once(lambda: resolve(model, download=False))
        steps = (progress or _quiet) if measure else None
        return self.call(lambda: standings(self._models, self.backends, model, here, precision, steps))

    def setup_recommendations(self, model: str = "pocket") -> list[Recommendation]:
        """What would make a model run faster here, or on more backends: the largest measured gain first, then what the
        hardware speaks for, then what was not measured.
        """
        now = settings()
        pinned, by = now.backend, now.origin["backend"]
        return recommendations(self.backends_table(model), hardware.accelerators(), pinned, by)

    def models(self) -> list[ModelInfo]:
        """The models in memory."""
        return self._models.infos()

    def status(self) -> Status:
        """What is loaded, running and queued, and how much memory there is."""
        jobs = list(self._jobs)
        running = next((job.request.model for job in jobs if job.state not in ("queued", "done")), None)
        return Status(
            loaded=tuple(self._models.infos()),
            running=running,
            queued=sum(job.state == "queued" for job in jobs),
            memory_free=hardware.memory_free(),
            memory_total=hardware.memory_total(),
        )

    def close(self) -> None:
        """Cancel everything, give all memory back and end the thread. Closing twice is harmless."""
        if self.closed:
            return
        self._closed = True
        self._alarm.close()
        for job in list(self._jobs):
            job.cancel()
        # MLX objects must die on the thread that made them: an abort at interpreter exit was seen otherwise.
        self._worker.close(last=self._leave)

    @property
    def closed(self) -> bool:
        """Whether `close` was called, or this process is a fork, which has no engine thread."""
        return self._closed or os.getpid() != self._pid

    def _check_open(self) -> None:
        if self.closed:
            raise EngineClosedError("The engine is closed.", "Call mlxnb.engine() for a new one.")

    # On the engine's thread.

    def _leave(self) -> None:
        self._models.close()
        if self.cache is not None:
            self.cache.close()
        for backend in self.backends.values():
            backend.close()

    def _check_backend(self, request: Request) -> None:
        if request.backend != "auto":
            candidates(request.backend, self.backends)

    def _job(self, request: Request) -> Job:
        return Job(request, unstarted=lambda job: Outcome(job).result(), engine_thread=self._worker.ident)

    def _run_batch(self, jobs: list[Job], most: int | None) -> None:
        try:
            for group in by_model(jobs):
                with self._models.steady():
                    while group:
                        self._batch = BatchRun(self, group, most)
                        with self._using():
                            group = self._batch.run()
        except Exception as err:
            for job in jobs:  # nobody may wait for what will never come
                job.finish(None, Outcome(job).failed(err))
            raise
        finally:
            self._batch = None
            for job in jobs:
                if job in self._jobs:
                    self._jobs.remove(job)

    # For BatchRun.

    def loaded_for(self, job: Job) -> tuple[Loaded, float]:
        """See Host."""
        began, before = time.perf_counter(), self._models.loads
        loaded = self._loaded_for(job)
        return loaded, 0.0 if self._models.loads == before else time.perf_counter() - began

    def backend_of(self, loaded: Loaded) -> Backend:
        """See Host."""
        return self.backends[loaded.info.backend]

    def goes_on(self, job: Job, outcome: Outcome, err: Exception) -> bool:
        """See Host."""
        loaded, request = outcome.loaded, job.request
        if loaded is None or not outcome.asked or outcome.began or job.watch.cancelled.is_set():
            return False
        why = passed_over(loaded, err)
        if why is None:
            return False
        names = [each.subject for each in (*job.tried, *loaded.passed_over, why)]
        if not self._models.has_others(request.model, request.backend, request.strict, names):
            return False
        let_go(err)
        if memory_ran_out(err) and isinstance(loaded.model, LocalModel):
            loaded.model.give_back()
        if self._batch is None:
            self._models.release(loaded)  # the next backend may need its memory
        job.pass_over((*loaded.passed_over, why))
        job.state = "loading"
        outcome.loaded, outcome.asked = None, False
        return True

    def run_alone(self, job: Job) -> None:
        """See Host."""
        self._run(job)

    def ended(self, job: Job, outcome: Outcome, whole: bool) -> None:
        """See Host."""
        self._jobs.remove(job)
        self._after(job, outcome, whole)

    # How long models stay.

    @contextmanager
    def holding(self, model: LoadedModel) -> Iterator[None]:
        """For work on the engine's thread that goes on in later calls: within, the model is not given back for another,
        nor for its idle time. `unload` still takes it.
        """
        try:
            with self._models.holding(model):
                yield
        finally:
            self._rest()

    @contextmanager
    def _using(self) -> Iterator[None]:
        """What is got within stays in memory until the end; then whatever has been idle for long enough goes."""
        try:
            with self._models.in_use():
                yield
        finally:
            self._rest()

    def _rest(self) -> None:
        """Give back what was idle for its keep_alive and is not asked for by what waits; wake up for the next."""
        if self.closed:
            return
        following = self._models.give_back_idle(self._wanted)
        if following is not None:
            self._alarm.set(following)

    def _wanted(self) -> set[str | None]:
        """The models that those who wait ask for."""
        return {name for job in list(self._jobs) for name in (job.request.model, job.request.draft)}

    def _wake(self) -> None:
        with contextlib.suppress(EngineClosedError):  # it was closed just now, and has nothing left to give back
            self._worker.submit(self._rest)

    def _take(self, job: Job) -> None:
        with self._using():
            self._run(job)

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
        except Cancelled:
            job.finish(outcome.result())
        except MlxnbError as err:
            job.finish(None, ended_by(err, job, outcome))
        except Exception as err:  # noqa: BLE001 - one of the three edges: whatever a backend raises becomes the job's error
            traceback.clear_frames(err.__traceback__)  # whoever keeps the error must not keep a KV state with it
            job.finish(None, ended_by(err, job, outcome))
        else:
            whole = True
            job.finish(outcome.result())
        finally:
            self._jobs.remove(job)
            job.watch.draft = None  # whoever keeps the job must not keep a model
            self._after(job, outcome, whole)

    def _after(self, job: Job, outcome: Outcome, whole: bool) -> None:
        """What nobody has to wait for: keep the answer if it came to its end, and the KV state."""
        if self.cache is not None and outcome.loaded is not None and job.watch.start is not None:
            try:
                if whole:
                    self.cache.keep(outcome.loaded.model, job, job.result())
            finally:
                self.cache.finished(outcome.loaded.model, job)
        if whole and self._batch is None and outcome.loaded is not None:
            self._models.ran(outcome.loaded, job.request, job.result())

    def _along_the_chain(self, job: Job, outcome: Outcome) -> Result | None:
        """`_generate`, on the next backend where one fails before the first token."""
        while True:
            try:
                return self._generate(job, outcome)
            except Exception as err:
                if not self.goes_on(job, outcome, err):
                    raise

    def _generate(self, job: Job, outcome: Outcome) -> Result | None:
        """Generate into `outcome`; or the answer as it was kept."""
        began, before = time.perf_counter(), self._models.loads
        outcome.loaded = self._loaded_for(job)
        if self._models.loads > before:
            outcome.load_time += time.perf_counter() - began
        if job.watch.cancelled.is_set():
            return None
        if self.cache is not None:
            found = self.cache.find(outcome.loaded.model, job, outcome.load_time)
            if found is not None:
                return outcome.found(found)
        outcome.load_time += draft_for(self._models, job, outcome.loaded)
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
            return self._models.get(*asked, job.loading, names, request.keep_alive)
        finally:
            self._asking = None

    def _tell(self, doing: str) -> None:
        if self._asking is not None:
            self._asking.watch.doing = doing


def _quiet(done: int, total: int, doing: str) -> None:
    """Nobody asked how far it is."""
