"""The engine: takes Requests from any thread, runs them in order on its own, and gives back Results."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .. import hardware
from ..backends import default_backends
from ..backends.base import Backend, Cancelled, LoadedModel, ModelInfo
from ..backends.local import LocalModel
from ..backends.memory import clear
from ..backends.perplexity import Perplexity, Text, as_texts, in_tokens, perplexity
from ..backends.select import candidates
from ..errors import BackendError, EngineClosedError, MlxnbError
from ..request import Message, Precision, Request
from ..result import Chunk, Result
from .bar import Bar, Wanted, shown
from .batch import Answer, BatchJob, as_jobs
from .batch_run import BatchRun, by_model
from .caches import Caches
from .drafts import draft_for
from .job import Job
from .loaded import Loaded, LoadedModels
from .outcome import Outcome
from .signature import names_its_options
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

    # Makes what shows how far a batch is; whoever can show things sets it, which nothing below the fronts can.
    bar: Callable[[], Bar] | None = None

    def __init__(self, backends: Mapping[str, Backend] | None = None, *, caching: bool = True) -> None:
        self.backends: dict[str, Backend] = dict(backends if backends is not None else default_backends())
        self._worker = Worker("mlxnb-engine")
        # Without `caching` nothing is looked up or kept, in memory or on disk, whatever a request says.
        self.cache = Caches(self.call) if caching else None
        self._models = LoadedModels(self.backends, self.cache)
        self._jobs: list[Job] = []  # queued and running, in order
        self._batch: BatchRun | None = None  # the one that runs
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
            self._worker.submit(lambda: self._run(job))
        except EngineClosedError:
            self._jobs.remove(job)
            raise
        return job

    @names_its_options
    def batch(self, prompts: Iterable[Prompt | Request], *, progress: Wanted = None, **options: Any) -> list[Answer]:
        """Answer many prompts at once, in their order: for each its Result, or the MlxnbError that it failed with.

        As many are computed together as memory holds; one that finishes makes room for the next. What the prompts have
        in common is computed once: the KV state of each prompt is kept before the next begins (that of an answer is
        not). Greedy answers in
        float32 are those that `generate` gives. Number formats that round more may choose otherwise between two tokens
        that are almost equally likely, since a sum over another number of rows is rounded in another order.

        Args:
            prompts: strings, lists of messages, or Requests, which keep options of their own.
            progress: True for a bar in the notebook, or on a terminal's stderr; a function that hears a Progress
                several times a second, on this thread; False for neither. Without it a bar appears after a second.
            **options: as for `generate`, for every prompt that is no Request.
        """
        with shown(progress, self.bar) as show:
            return self.submit_batch(prompts, **options).results(show)

    @names_its_options
    def submit_batch(self, prompts: Iterable[Prompt | Request], **options: Any) -> BatchJob:
        """Queue many prompts, see `batch`, as one piece of work; iterate the BatchJob for (index, Result or error).

        Raises:
            OptionError: an option that no prompt could be asked with, or one string in the place of prompts.
            PromptError: options that go with no prompt, such as `raw` with `system`.
            BackendMissingError: the backend that is named cannot run here.
            EngineClosedError: after `close`.
        """
        self._check_open()
        batch = BatchJob(as_jobs(prompts, options, self._job, self._check_backend))
        batch.follow()
        jobs = batch.jobs
        self._jobs += jobs
        try:
            self._worker.submit(lambda: self._run_batch(jobs))
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
    ) -> ModelInfo:
        """Load a model ahead of its first request. `progress` hears of a download: bytes done and in all.

        What could not be done as asked is in the `refused` and the `notes` of what it gives; with `strict` it raises.

        Raises:
            ModelError, BackendError: it cannot be loaded.
            OptionError: there is no such backend or dtype, or nothing to quantise to by that name; with `strict` also
                where the model could not be quantised as asked, and then it is not kept.
        """
        self._check_open()
        precision = Precision(dtype, quantize)

        def watched(done: int, total: int) -> None:
            if self._closed:
                raise Cancelled
            if progress is not None:
                progress(done, total)

        try:
            return self._worker.call(lambda: self._models.get(name, backend, precision, strict, watched).info)
        except Cancelled:
            raise EngineClosedError(f"The engine was closed while {name} was being fetched.") from None

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
        return self.call(lambda: function(self._models.get(name, backend, precision).model))

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
        given = as_texts(texts)
        precision = Precision(dtype, quantize)

        def measure() -> Perplexity:
            loaded = self._models.get(model, backend, precision).model
            if not isinstance(loaded, LocalModel):
                raise BackendError(f"{loaded.info.backend} does not tell how likely a token is.", "Take mlx or torch.")
            return perplexity(loaded, [in_tokens(loaded, text) for text in given])

        return self.call(measure)

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

    def _run_batch(self, jobs: list[Job]) -> None:
        try:
            for group in by_model(jobs):
                with self._models.steady():
                    while group:
                        self._batch = BatchRun(self, group)
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

    def run_alone(self, job: Job) -> None:
        """See Host."""
        self._run(job)

    def ended(self, job: Job, outcome: Outcome, whole: bool) -> None:
        """See Host."""
        self._jobs.remove(job)
        self._after(job, outcome, whole)

    def _run(self, job: Job) -> None:
        outcome, whole = Outcome(job), False
        try:
            if job.start() and (found := self._generate(job, outcome)) is not None:
                job.put(Chunk(found.text, None, found.timings.start, found.thinking))
                job.finish(found)
                assert self.cache is not None
                assert outcome.loaded is not None
                self.cache.remember(outcome.loaded.model, job)
                return
        except Cancelled:
            job.finish(outcome.result())
        except MlxnbError as err:
            clear(err)
            job.finish(None, err)
        except Exception as err:  # noqa: BLE001 - one of the three edges: whatever a backend raises becomes the job's error
            clear(err)
            job.finish(None, outcome.failed(err))
        else:
            whole = True
            job.finish(outcome.result())
        finally:
            self._jobs.remove(job)
            job.watch.draft = None  # whoever keeps the job must not keep a model
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

    def _generate(self, job: Job, outcome: Outcome) -> Result | None:
        """Generate into `outcome`; or the answer as it was kept."""
        began, before = time.perf_counter(), self._models.loads
        outcome.loaded = self._loaded_for(job)
        if self._models.loads > before:
            outcome.load_time = time.perf_counter() - began
        if job.watch.cancelled.is_set():
            return None
        if self.cache is not None:
            found = self.cache.find(outcome.loaded.model, job, outcome.load_time)
            if found is not None:
                return found
        outcome.load_time += draft_for(self._models, job, outcome.loaded)
        if self.cache is not None:
            self.cache.relieve(outcome.loaded.model, job, self.backends[outcome.loaded.info.backend].memory_free)
        job.state = "prefill"
        for chunk in outcome.loaded.model.stream(job.request, job.watch):
            job.state = "decode"
            outcome.add(chunk)
            job.put(chunk)
        return None

    def _loaded_for(self, job: Job) -> Loaded:
        request = job.request
        return self._models.get(request.model, request.backend, request.precision, request.strict, job.loading)
