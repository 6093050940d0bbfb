"""mlx-lm's `batch_generate` on torch: many prompts of token ids, answers in their order, and what they took."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from typing import Any

from ...errors import OptionError
from .model import of
from .peak import peak_memory
from .prompt_cache import make_prompt_cache
from .refusals import refuse
from .steps import generate_step, token_ids


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

    Of mlx-lm's further options `sampler` and `logits_processors` hold; its batch sizes and stream change no answer.

    Raises:
        ValueError: the lists differ in length, a prompt is empty, or an option is not for torch.
    """
    options, prompts = _options(**kwargs), [token_ids(prompt) for prompt in prompts]
    limits = max_tokens if isinstance(max_tokens, list) else [max_tokens] * len(prompts)
    caches = _caches(of(model), prompts, prompt_caches, return_prompt_caches)
    if len(limits) != len(prompts) or len(caches) != len(prompts):
        raise OptionError(
            f"{len(prompts)} prompts came with {len(limits)} max_tokens and {len(caches)} caches.", "One each."
        )
    stats, began = BatchStats(), time.perf_counter()
    answers: list[Answer] = []
    for number, (ids, limit, cache) in enumerate(zip(prompts, limits, caches, strict=True)):
        _say(verbose, f"Finished processing {number}/{len(prompts)} ...", end="\r")
        answers.append(_answer(model, tokenizer.eos_token_ids, ids, limit, cache, options, stats))
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
    return {"sampler": sampler, "logits_processors": logits_processors}


def _caches(model: Any, prompts: list[Any], given: list[Any] | None, wanted: bool) -> list[Any]:
    if given is not None:
        return [copy.deepcopy(cache) for cache in given]
    return [make_prompt_cache(model) if wanted else None for _ in prompts]


def _answer(
    model: Any, ends: set[int], ids: list[int], limit: int, cache: Any, options: dict[str, Any], stats: BatchStats
) -> Answer:
    answer, began = Answer(cache=cache), time.perf_counter()
    stats.prompt_tokens += len(ids) - 1  # as mlx-lm counts: the last one is fed by the first step of decoding
    first = 0.0
    for token, logprobs in generate_step(ids, model, max_tokens=limit, prompt_cache=cache, **options):
        stats.generation_tokens, stats.generation_steps = stats.generation_tokens + 1, stats.generation_steps + 1
        first = first or time.perf_counter()
        if token in ends:
            break
        answer.tokens.append(token)
        answer.logprobs.append(float(logprobs[token]))
    first = first or time.perf_counter()
    stats.prompt_time += first - began
    stats.decode_time += time.perf_counter() - first
    return answer


def _report(verbose: bool, prompts: int, stats: BatchStats) -> None:
    _say(verbose, f"Finished processing {prompts}/{prompts}")
    _say(verbose, f"Prompt: {stats.prompt_tokens} tokens, {stats.prompt_tps:.3f} tokens-per-sec")
    _say(verbose, f"Generation: {stats.generation_tokens} tokens, {stats.generation_tps:.3f} tokens-per-sec")
    _say(verbose, f"Peak memory: {stats.peak_memory:.3f} GB")


def _say(verbose: bool, words: str, end: str = "\n") -> None:
    if verbose:
        print(f"[batch_generate] {words}", end=end)
