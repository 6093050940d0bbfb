"""The engine: takes Requests from any thread, runs them in order on its own, and gives back Results."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from .. import hardware
from ..backends import default_backends
from ..backends.base import Backend, Cancelled, LoadedModel, ModelInfo
from ..backends.local import LocalModel
from ..backends.perplexity import Perplexity, Text, as_texts, in_tokens, perplexity
from ..backends.rates import rate_book
from ..backends.select import candidates
from ..config import batch_size, settings
from ..conversion import Conversion
from ..errors import BackendError, EngineClosedError
from ..models import resolve
from ..models.entry import Entry
from ..models.recommended import Recommended
from ..request import Message, Precision, Request, check_keep_alive
from ..result import Result
from .answering import Answering
from .bar import Bar, Wanted, check_wanted, shown
from .batch import Answer, BatchJob, as_jobs
from .caches import Caches
from .chats import Chats
from .conversion import ConversionReport, Order, convert
from .finding import once
from .here import models_here, recommended_here
from .job import Job
from .kept_rows import KeptRows
from .loaded import LoadedModels
from .map_job import MapJob
from .mapping import Asking, requests_of
from .outcome import Outcome
from .remedies import Recommendation, recommendations
from .residency import Resident
from .samples import sampled
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

    # Makes what shows how far a batch is; whoever can show things sets it, which nothing below the fronts can.
    bar: Callable[[], Bar] | None = None

    def __init__(self, backends: Mapping[str, Backend] | None = None, *, caching: bool = True) -> None:
        self.backends: dict[str, Backend] = dict(backends if backends is not None else default_backends())
        self._worker = Worker("mlxnb-engine")
        # Without `caching` nothing is looked up or kept, in memory or on disk, whatever a request says.
        self.cache = Caches(self.call) if caching else None
        self._models = LoadedModels(self.backends, self.cache, rate_book() if caching else None)
        self._answering = Answering(self.backends, self._models, self.cache, self._worker.submit, lambda: self.closed)
        self._jobs = self._answering.jobs
        self._ears: tuple[Callable[[Job], None], ...] = ()
        self.chats = Chats(self)  # the conversations, by name
        self._closed = False
        self._pid = os.getpid()

    @names_its_options
    def generate(self, prompt: Prompt, **options: Any) -> Result:
        """Generate and wait for the Result.

        Args:
            prompt: a string, or messages as `{"role", "content"}` mappings.
            **options: `model`, `backend`, `system`, `raw`, `stop`, `strict`, `dtype`, `quantize`, `max_tokens` and
                the sampling fields; see `Request.of`. With `schema`, a pydantic model, a dataclass, a JSON schema, a
                regular expression or a list of choices, the answer keeps to it, and is in the Result's `parsed`. With
                `tools`, annotated functions, the Result's `tool_calls` are what the model wants called.

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
        self._tell(job)
        try:
            self._worker.submit(lambda: self._answering.take(job))
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
    def samples(self, prompt: Prompt, n: int, *, progress: Wanted = None, **options: Any) -> list[Answer]:
        """`n` answers to one prompt in one batch, each its Result or the error that it failed with. With a `seed` they
        have the seeds seed, seed + 1, …, without one each its own, which its provenance tells: so each repeats alone.
        The prompt is computed once, unless `cache` is "off".

        Raises:
            OptionError: no number of samples, or temperature 0, at which all of them would be the same.
        """
        request = Request.of(prompt, **options)
        self._check_backend(request)
        return self.batch(sampled(request, n), progress=progress)

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
        return self._submit_batch(prompts, options)

    def _submit_batch(
        self, prompts: Iterable[Prompt | Request], options: Mapping[str, Any], fresh: bool = False
    ) -> BatchJob:
        """See `submit_batch`. `fresh`: no answer is taken from the cache of answers, though it is kept there."""
        self._check_open()
        most = batch_size()
        batch = BatchJob(as_jobs(prompts, options, partial(self._job, fresh=fresh), self._check_backend))
        batch.follow()
        jobs = batch.jobs
        self._jobs += jobs
        self._tell(*jobs)
        try:
            self._worker.submit(lambda: self._answering.run_batch(jobs, most))
        except EngineClosedError:
            for job in jobs:
                self._jobs.remove(job)
            raise
        return batch

    @names_its_options
    def map(
        self, template: Asking, rows: Any, *, fresh: bool = False, progress: Wanted = None, **options: Any
    ) -> MapJob:
        """Answer every row of a table at once; iterate the MapJob for the answers in order, or make a list of it.

        Each row is kept on disk as it finishes, and not computed again by a later run that asks the same of the same
        model, in this process or another: an interrupt or a crash costs the rows that were under way. That goes for
        answers that sampling made too. Rows that failed are asked again. With `cache="off"` nothing is kept.

        Args:
            template: text with `{{ row }}`, or `{{ row.x }}` for a column, a key or an attribute; or a function that
                makes a prompt of a row, as `batch` takes it.
            rows: a pandas or polars frame or Series, a mapping, whose values they are, or anything else to go through.
            fresh: forget what earlier runs kept of these rows, and compute all of them anew.
            progress: as for `batch`; shown while the MapJob is iterated.
            **options: as for `generate`.

        Raises:
            OptionError: `rows` has none, an option is wrong, or with `fresh` the rows cannot be forgotten.
            TemplateError: a mistake in the template, or nothing of the row in it. What fails for one row is its answer.
        """
        self._check_open()
        check_wanted(progress)
        asked = requests_of(template, rows, options)
        kept = KeptRows(self.cache.journals if self.cache is not None else None, asked)
        if fresh:
            kept.forget()
        submit = partial(self._submit_batch, options=options, fresh=fresh)  # holds the options against what is here
        return MapJob(asked, kept, submit, lambda: shown(progress, self.bar))

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
        adapter: str | None = None,
    ) -> ModelInfo:
        """Load a model ahead of its first request. `progress` hears of a download: bytes done and in all.

        `keep_alive`: seconds that it stays when idle, or "forever". `pin`: whether it stays when another model needs
        its memory, see `keep`; None leaves what holds. `adapter`: the folder of a LoRA adapter to put on it.

        What could not be done as asked is in the `refused` and the `notes` of what it gives; with `strict` it raises.

        Raises:
            ModelError, BackendError: it cannot be loaded.
            OptionError: there is no such backend or dtype, or nothing to quantise to by that name; with `strict` also
                where the model could not be quantised as asked, and then it is not kept.
        """
        self._check_open()
        precision, keep_alive = Precision(dtype, quantize, adapter), check_keep_alive(keep_alive)

        def watched(done: int, total: int) -> None:
            if self._closed:
                raise Cancelled
            if progress is not None:
                progress(done, total)

        def now() -> ModelInfo:
            with self._answering.using():
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
            with self._answering.using():
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
            batch = self._answering.batch
            in_use = batch.loaded if batch is not None else None
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
        adapter: str | None = None,
    ) -> T:
        """`call` for a function of a model, which is loaded if it is not.

        Raises:
            ModelError, BackendError: it cannot be loaded.
            OptionError: there is no such backend or dtype, or nothing to quantise to by that name.
        """
        precision = Precision(dtype, quantize, adapter)

        def used() -> T:
            with self._answering.using():
                return function(self._models.get(name, backend, precision).model)

        return self.call(used)

    def holding(self, model: LoadedModel) -> AbstractContextManager[None]:
        """For work on the engine's thread that goes on in later calls: within, the model is not given back for another,
        nor for its idle time. `unload` still takes it.
        """
        return self._answering.holding(model)

    def perplexity(
        self,
        texts: Text | Iterable[Text],
        *,
        model: str = "pocket",
        backend: str = "auto",
        dtype: str | None = None,
        quantize: str | None = None,
        adapter: str | None = None,
    ) -> Perplexity:
        """How well a model predicts texts; lower is better. To compare precisions of one model, a model with an adapter
        and without, or models that share a tokenizer.

        Args:
            texts: strings, or pairs of a prompt and its answer, of which the answer counts.
            model, backend, dtype, quantize, adapter: as for `generate`.

        Raises:
            PromptError: a text is none, or longer than the model's context.
            BackendError: the backend does not tell how likely a token is.
        """
        given = as_texts(texts)

        def measure(loaded: LoadedModel) -> Perplexity:
            if not isinstance(loaded, LocalModel):
                raise BackendError(f"{loaded.info.backend} does not tell how likely a token is.", "Take mlx or torch.")
            return perplexity(loaded, [in_tokens(loaded, text) for text in given])

        return self.call_with(model, measure, backend, dtype, quantize, adapter)

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

    def convert(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str] | None = None,
        *,
        to: str = "mlx",
        quantize: int | str | None = None,
        group_size: int | None = None,
        mixed: str | None = None,
        dtype: str | None = None,
        force: bool = False,
        check: bool = True,
        text: str | os.PathLike[str] | None = None,
        backend: str = "auto",
        progress: Callable[[int, int, str], None] | None = None,
    ) -> ConversionReport:
        """Write a model in another format, and hold it against its source. The engine answers others meanwhile; only
        the check runs on its thread. A conversion that fails or is interrupted leaves nothing behind.

        Args:
            source: a model's name, as for `generate`, with weights in safetensors that are not quantised.
            target: the new folder, or GGUF file; where not given it is named after the source and what was done, in
                LOCAL_MODELS_DIR or the current folder.
            to: "mlx", "gguf" or "onnx".
            quantize: bits of a weight; None leaves them whole. For GGUF also llama.cpp's own names, such as "q4_k_m".
            group_size, mixed: of MLX's format: weights that share a scale (64), and one of mlx-lm's mixed recipes.
            dtype: of what is not quantised; None for as it is stored.
            force: replace a model that is at the target.
            check: afterwards, by KL divergence, perplexity and greedy agreement; `text` is a file for it in the place
                of ours, `backend` what computes it.
            progress: hears of steps done, steps in all and what is under way; what it raises ends the conversion.

        Raises:
            OptionError: an option that the format does not take, or a target that exists.
            ModelError, BackendError: the source cannot be found or converted. A check that cannot be done is no error:
                the report says why.
        """
        self._check_open()
        if check and backend != "auto":
            candidates(backend, self.backends)
        how = Conversion(to, quantize, group_size, mixed, dtype)
        place, sample = (None if given is None else Path(given).expanduser() for given in (target, text))
        order = Order(os.fspath(source), how, place, force, check, sample, backend)
        return convert(order, self._models, self.call, lambda: self._closed, progress)

    def hear(self, ear: Callable[[Job], None]) -> Callable[[], None]:
        """Call `ear(job)` with every job that is queued or runs now, and later with each as it is queued, on the thread
        that asks; what this gives back ends that. `ear` must be quick, and must not raise. A job that is queued at this
        very moment it may hear of twice.
        """
        self._ears = (*self._ears, ear)
        for job in list(self._jobs):
            ear(job)

        def deafen() -> None:
            self._ears = tuple(each for each in self._ears if each is not ear)

        return deafen

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
        self._answering.close()
        # MLX objects must die on the thread that made them: an abort at interpreter exit was seen otherwise.
        self._worker.close(last=self._leave)

    @property
    def closed(self) -> bool:
        """Whether `close` was called, or this process is a fork, which has no engine thread."""
        return self._closed or os.getpid() != self._pid

    def _tell(self, *jobs: Job) -> None:
        for ear in self._ears:
            for job in jobs:
                ear(job)

    def _check_open(self) -> None:
        if self.closed:
            raise EngineClosedError("The engine is closed.", "Call mlxnb.engine() for a new one.")

    def _check_backend(self, request: Request) -> None:
        if request.backend != "auto":
            candidates(request.backend, self.backends)

    def _job(self, request: Request, fresh: bool = False) -> Job:
        job = Job(request, unstarted=lambda job: Outcome(job).result(), engine_thread=self._worker.ident)
        job.fresh = fresh
        return job

    def _leave(self) -> None:
        """On the engine's thread, as the last thing there."""
        self._models.close()
        if self.cache is not None:
            self.cache.close()
        for backend in self.backends.values():
            backend.close()


def _quiet(done: int, total: int, doing: str) -> None:
    """Nobody asked how far it is."""
