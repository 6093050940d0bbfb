"""mlx-lm's `batch_generate` on torch: many prompts of token ids, answers in their order, and what they took."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...backends.base import Watch
from ...backends.vocabulary import check_ids
from ...errors import EmptyPromptError, OptionError
from ...runtime import shared_engine
from .model import of
from .peak import peak_memory
from .prompt_cache import held_by, make_prompt_cache
from .refusals import refuse
from .rows import Asked, Rows, Times, decoded
from .sampling import make_sampler
from .steps import Pick, generate_step, token_ids, whole_number

if TYPE_CHECKING:
    from ...request import Request
    from .model import Model


@dataclass(kw_only=True)
class BatchStats:
    """What a batch took, with mlx-lm's fields: times in seconds, memory in GB, rates in tokens a second."""

    prompt_tokens: int = 0
    prompt_time: float = 0.0
    generation_tokens: int = 0
    generation_steps: int = 0
    decode_time: float = 0.0
    wall_time: float = 0.0
    peak_memory: float = 0.0

    @property
    def prompt_tps(self) -> float:
        """Prompt tokens a second of prefill."""
        return self.prompt_tokens / self.prompt_time if self.prompt_time > 0 else 0.0

    @property
    def decode_tps(self) -> float:
        """Generated tokens a second of decoding."""
        return self.generation_tokens / self.decode_time if self.decode_time > 0 else 0.0

    @property
    def generation_time(self) -> float:
        """Seconds that were not prefill."""
        return max(0.0, self.wall_time - self.prompt_time)

    @property
    def generation_tps(self) -> float:
        """Generated tokens a second of those."""
        return self.generation_tokens / self.generation_time if self.generation_time > 0 else 0.0

    @property
    def overhead_time(self) -> float:
        """Seconds that were neither prefill nor decoding."""
        return max(0.0, self.wall_time - self.prompt_time - self.decode_time)


@dataclass
class BatchResponse:
    """Answers in the order of their prompts; caches, ids and logprobs where they were asked for."""

    texts: list[str]
    stats: BatchStats
    caches: list[list[Any]] | None
    token_ids: list[list[int]] | None = None
    logprobs: list[list[float]] | None = None


@dataclass(slots=True)
class Answer:
    """One prompt's answer, the token that ended it left out."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    cache: list[Any] | None = None


def batch_generate(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    prompt_caches: list[list[Any]] | None = None,
    max_tokens: int | list[int] = 128,
    verbose: bool = False,
    return_prompt_caches: bool = False,
    return_token_ids: bool = False,
    return_logprobs: bool = False,
    **kwargs: Any,
) -> BatchResponse:
    """Answer every prompt; `prompt_caches` are read and not changed, `max_tokens` may be one number a prompt.

    They are decoded together, as many at once as `completion_batch_size` and memory allow; a model whose rows of unlike
    length cannot share a step answers one after the other, which `verbose` tells. `sampler` and `logits_processors` see
    one row at a time. The other options of mlx-lm's batches change no answer.

    Raises:
        ValueError: the lists differ in length, a prompt is empty, or an option is not for torch.
    """
    options, prompts = _options(**kwargs), [token_ids(prompt) for prompt in prompts]
    limits = max_tokens if isinstance(max_tokens, list) else [max_tokens] * len(prompts)
    handle, ends = of(model), set(tokenizer.eos_token_ids)
    caches = _caches(handle, prompts, prompt_caches, return_prompt_caches)
    if len(limits) != len(prompts) or len(caches) != len(prompts):
        raise OptionError(
            f"{len(prompts)} prompts came with {len(limits)} max_tokens and {len(caches)} caches.", "One each."
        )
    _check(handle, prompts, limits)
    stats, began = BatchStats(), time.perf_counter()
    report = _finished(verbose, len(prompts))
    verdict = handle.run(lambda loaded: loaded.batchable(handle.request()))
    if verdict:
        keep = (return_prompt_caches, return_logprobs)
        answers = _together(handle, ends, prompts, limits, caches, options, keep, stats, report)
    else:
        _say(verbose, f"One after the other: {verdict.reason}")
        answers = [
            _answer(model, ends, ids, limit, cache, options, stats, report)
            for ids, limit, cache in zip(prompts, limits, caches, strict=True)
        ]
    stats.wall_time, stats.peak_memory = time.perf_counter() - began, peak_memory()
    _report(verbose, len(prompts), stats)
    return BatchResponse(
        [tokenizer.decode(answer.tokens) for answer in answers],
        stats,
        [answer.cache or [] for answer in answers] if return_prompt_caches else None,
        [answer.tokens for answer in answers] if return_token_ids else None,
        [answer.logprobs for answer in answers] if return_logprobs else None,
    )


def _options(
    *,
    sampler: Any = None,
    logits_processors: Any = None,
    completion_batch_size: int = 32,
    prefill_batch_size: int = 8,
    prefill_step_size: int = 2048,
    max_kv_size: int | None = None,
    stream: Any = None,
) -> dict[str, Any]:
    """mlx-lm's options of a batch, unknown ones refused as a TypeError; those that decide answers."""
    refuse(max_kv_size=max_kv_size)
    sizes = (completion_batch_size, prefill_batch_size)
    names = ("completion_batch_size", "prefill_batch_size")
    most = max(whole_number(name, size, 1) for name, size in zip(names, sizes, strict=True))
    return {"sampler": sampler, "logits_processors": logits_processors, "most": most}


def _caches(model: Any, prompts: list[Any], given: list[Any] | None, wanted: bool) -> list[Any]:
    if given is not None:
        return [copy.deepcopy(cache) for cache in given]
    return [make_prompt_cache(model) if wanted else None for _ in prompts]


def _check(handle: Model, prompts: list[list[int]], limits: list[int]) -> None:
    """Before any of them is computed."""
    for ids, limit in zip(prompts, limits, strict=True):
        if not ids:
            raise EmptyPromptError("A prompt has no tokens.", "Give token ids.")
        check_ids(ids, handle.config.get("vocab_size"), handle.name)
        whole_number("max_tokens", limit, 1)


def _together(
    handle: Model,
    ends: set[int],
    prompts: list[list[int]],
    limits: list[int],
    caches: list[Any],
    options: dict[str, Any],
    keep: tuple[bool, bool],
    stats: BatchStats,
    report: Callable[[], None],
) -> list[Answer]:
    """The answers, decoded in one batch; `keep`: whether prompt caches and logprobs are wanted."""
    asked = [
        _asked(handle.request(), ids, limit, cache, frozenset(ends), options)
        for ids, limit, cache in zip(prompts, limits, caches, strict=True)
    ]
    times, engine = Times(), shared_engine()
    steps = handle.run(
        lambda loaded: decoded(Rows(handle, loaded, keep[1]), loaded, asked, options["most"], keep[0], times)
    )
    try:
        while (done := engine.call(lambda: next(steps, None))) is not None:
            for _ in done:
                report()
    finally:
        if not engine.closed:
            engine.call(steps.close)  # type: ignore[attr-defined]
    stats.prompt_tokens = sum(len(ids) - 1 for ids in prompts)  # as in `_answer`
    stats.generation_tokens, stats.generation_steps = sum(len(member.made) for member in asked), times.rounds
    stats.prompt_time, stats.decode_time = times.prompt, times.decode
    return [Answer(member.tokens, member.logprobs[: len(member.tokens)], member.cache) for member in asked]


def _asked(
    request: Request, ids: list[int], limit: int, cache: Any, ends: frozenset[int], options: dict[str, Any]
) -> Asked:
    chooses = options["sampler"] or options["logits_processors"]
    pick = Pick(options["sampler"] or make_sampler(), options["logits_processors"] or []) if chooses else None
    held = held_by(cache)
    # Nothing reads text of it, so that it has no Row.
    return Asked(request, Watch(), [0] * held + ids, None, limit, draw=pick, held=held, cache=cache, ends=ends)  # type: ignore[arg-type]


def _answer(
    model: Any,
    ends: set[int],
    ids: list[int],
    limit: int,
    cache: Any,
    options: dict[str, Any],
    stats: BatchStats,
    report: Callable[[], None],
) -> Answer:
    answer, began = Answer(cache=cache), time.perf_counter()
    stats.prompt_tokens += len(ids) - 1  # as mlx-lm counts: the last one is fed by the first step of decoding
    first = 0.0
    chosen = {name: options[name] for name in ("sampler", "logits_processors")}
    for token, logprobs in generate_step(ids, model, max_tokens=limit, prompt_cache=cache, **chosen):
        stats.generation_tokens, stats.generation_steps = stats.generation_tokens + 1, stats.generation_steps + 1
        first = first or time.perf_counter()
        if token in ends:
            break
        answer.tokens.append(token)
        answer.logprobs.append(float(logprobs[token]))
    first = first or time.perf_counter()
    stats.prompt_time += first - began
    stats.decode_time += time.perf_counter() - first
    report()
    return answer


def _finished(verbose: bool, prompts: int) -> Callable[[], None]:
    """What to call whenever one more prompt is answered; says that none is yet."""
    done = [-1]

    def report() -> None:
        done[0] += 1
        _say(verbose, f"Finished processing {done[0]}/{prompts} ...", end="\r")

    report()
    return report


def _report(verbose: bool, prompts: int, stats: BatchStats) -> None:
    _say(verbose, f"Finished processing {prompts}/{prompts}")
    _say(verbose, f"Prompt: {stats.prompt_tokens} tokens, {stats.prompt_tps:.3f} tokens-per-sec")
    _say(verbose, f"Generation: {stats.generation_tokens} tokens, {stats.generation_tps:.3f} tokens-per-sec")
    _say(verbose, f"Peak memory: {stats.peak_memory:.3f} GB")


def _say(verbose: bool, words: str, end: str = "\n") -> None:
    if verbose:
        print(f"[batch_generate] {words}", end=end)
