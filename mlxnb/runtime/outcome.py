"""Collects what a generation produces and makes the Result of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from ..backends.memory import memory_ran_out
from ..decision import Rejected
from ..errors import GenerationError, MlxnbError
from ..result import Chunk, Provenance, Result, Timings
from .in_memory import Loaded
from .job import Job
from .parsing import parsed


class Outcome:
    """The growing answer of one job. `loaded` stays None for a job that was cancelled before it had a model."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.loaded: Loaded | None = None
        self.load_time = 0.0
        self.asked = False  # whether its backend was given the request
        self.began = False  # whether it gave a token
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._tokens: list[int] = []
        self._thinking_tokens = 0
        self._first_visible: float | None = None

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._text)

    def add(self, chunk: Chunk) -> None:
        """Take in the next chunk."""
        self.began = True
        self._text.append(chunk.text)
        self._thinking.append(chunk.thinking)
        if chunk.token is not None:
            self._tokens.append(chunk.token)
            self._thinking_tokens += bool(chunk.thinking)
        if chunk.text and self._first_visible is None:
            self._first_visible = chunk.time

    def found(self, kept: Result) -> Result:
        """An answer that was kept, as this request came to it: past the backends that it was passed over by.

        Raises:
            GenerationError: see `parsed`.
        """
        found = replace(kept, provenance=replace(kept.provenance, passed_over=self._passed_over()))
        return parsed(found, self._job.request)

    def ended(self) -> tuple[Result | None, GenerationError | None]:
        """The Result of an answer that is out; or the error of one that does not keep to its schema, which holds it."""
        try:
            return parsed(self.result(), self._job.request), None
        except GenerationError as err:
            return None, err

    def result(self) -> Result:
        """The Result; a job that never got to its backend counts as interrupted."""
        watch = self._job.watch
        return Result(
            text=self.text,
            tokens=self._tokens,
            finish_reason=watch.finish_reason or "interrupted",
            timings=self._timings(),
            provenance=self._provenance(),
            thinking="".join(self._thinking),
            peak_memory=watch.peak_memory,
            speculation=watch.speculation,
            tool_calls=tuple(watch.tool_calls),
            logprobs=watch.logprobs(self._tokens) if watch.logprobs is not None else None,
        )

    def so_far(self) -> Result:
        """The Result of an answer that ended too early, as far as it can be told: it may be the telling that failed."""
        try:
            return self.result()
        except Exception:  # noqa: BLE001 - an edge: whoever waits for the job has to hear of its end
            self._job.watch.logprobs = None
            return self.result()

    def failed(self, cause: Exception) -> GenerationError:
        """The error for a generation that broke down, with what there is of an answer."""
        own = cause if isinstance(cause, MlxnbError) else None
        reason = " ".join((own.message.rstrip(".") if own else f"{type(cause).__name__}: {cause}").split())
        self._job.watch.finish_reason = "interrupted"
        self._job.watch.notes.append(f"generation failed: {reason}")
        partial = self.so_far() if self.began else None
        where = f"{self._job.request.model} on {self.loaded.info.backend}" if self.loaded else self._job.request.model
        so_far = "`.partial` of the error holds the answer so far." if self.text else ""
        helps = own.remedy if own else self._for_memory(cause)
        remedy = f"{helps} {so_far}".strip()
        error = GenerationError(f"Generation with {where} failed: {reason}.", remedy, partial)
        error.__cause__ = cause
        return error

    def _for_memory(self, cause: Exception) -> str:
        """What helps where memory ran out, everything that the backend could do by itself being done by now."""
        if not memory_ran_out(cause):
            return ""
        smaller = [] if self.loaded and self.loaded.info.quantization else ["load it with --quantize int8"]
        ways = [*smaller, "unload another model", "ask with a shorter prompt or a smaller --max-tokens"]
        return f"Memory ran out: {', '.join(ways[:-1])}, or {ways[-1]}."

    def _timings(self) -> Timings:
        watch = self._job.watch
        return Timings(
            accepted=self._job.accepted,
            start=watch.start if watch.start is not None else time.perf_counter(),  # stopped while it waited
            token_times=tuple(watch.token_times),
            prompt_tokens=watch.prompt_tokens,
            reused_tokens=watch.reused_tokens,
            load_time=self.load_time,
            thinking_tokens=self._thinking_tokens,
            first_visible=self._first_visible,
            counted=watch.counted,
        )

    def _passed_over(self) -> tuple[Rejected, ...]:
        return (*self._job.tried, *(self.loaded.passed_over if self.loaded else ()))

    def _provenance(self) -> Provenance:
        request, watch = self._job.request, self._job.watch
        info = self.loaded.info if self.loaded else None
        return Provenance(
            model=request.model,
            source=info.source if info else "",
            revision=info.revision if info else None,
            backend=info.backend if info else "",
            backend_version=info.backend_version if info else "",
            device=info.device if info else "",
            dtype=info.dtype if info else "",
            quantization=info.quantization if info else None,
            sampling=replace(request.sampling, seed=watch.seed) if info else request.sampling,
            max_tokens=request.max_tokens,
            stop=request.stop,
            prompt_tokens=watch.prompt_tokens,
            reused_tokens=watch.reused_tokens,
            context_length=info.context_length if info else None,
            attention=_attention(info.attention if info else "", watch.attention_calls),
            attention_calls=tuple(watch.attention_calls.items()),
            kv_bits=watch.kv_bits,
            kv_group_size=watch.kv_group_size,
            passed_over=self._passed_over(),
            schema=request.schema.source if request.schema is not None else None,
            notes=(*(info.notes if info else ()), *(self.loaded.notes if self.loaded else ()), *watch.notes),
            adapter=info.adapter if info else "",
        )


def _attention(usual: str, calls: Mapping[str, int]) -> str:
    """The attention path in words; with the share of each where calls were counted."""
    whole = sum(calls.values())
    if not whole:
        return usual
    parts = sorted(calls.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count / whole:.0%}" for name, count in parts)
