"""What every backend that runs a model from a folder shares: prompt in, token loop, text out, one Chunk a token."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace

from ..request import Request, Sampling
from ..result import Chunk
from .base import Cancelled, ModelInfo, Watch
from .detokenize import Detokenizer
from .split import StopCutter, ThinkingSplitter
from .tokenizer import Prompt, Tokenizer, check_context


class LocalModel(ABC):
    """A LoadedModel with a tokenizer of its own. A backend adds `tokens`, its decode loop, and `close`."""

    info: ModelInfo

    # Length in tokens beyond which every position is embedded differently (LongRoPE), so that the KV cache of a
    # longer sequence must be computed anew; None for every other model.
    stretches_beyond: int | None = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @abstractmethod
    def tokens(self, ids: list[int], sampling: Sampling, limit: int, watch: Watch) -> Iterator[int]:
        """Yield up to `limit` token ids for the prompt `ids`, each as soon as it is known; the caller closes early.

        Reports prefill progress in `watch.prefill_done` and leaves prefill by Cancelled.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the memory back."""

    def stream(self, request: Request, watch: Watch) -> Iterator[Chunk]:
        """See LoadedModel.stream."""
        prompt = self.tokenizer.prompt(request)
        check_context(len(prompt.ids), self.info.context_length, request.model)
        if prompt.note:
            watch.notes.append(prompt.note)
        watch.begin(len(prompt.ids))
        try:
            yield from self._generate(request, prompt, watch)
        except Cancelled:
            watch.finish_reason = "interrupted"

    def _generate(self, request: Request, prompt: Prompt, watch: Watch) -> Iterator[Chunk]:
        limit = self._limit(request, len(prompt.ids), watch)
        text = TextStream(self.tokenizer, request.stop, prompt.thinking)
        tokens = self._tokens(prompt.ids, _seeded(request.sampling, watch), limit, watch)
        watch.finish_reason = "length"  # unless something else ends it first
        try:
            for token in tokens:
                now = time.perf_counter()
                if token in self.tokenizer.end_ids:
                    watch.finish_reason = "stop"
                    break
                watch.token_times.append(now)
                thinking, answer = text.feed(token)
                yield Chunk(answer, token, now, thinking)
                if text.stopped:
                    watch.finish_reason = "stop"
                    return
                if watch.cancelled.is_set():
                    watch.finish_reason = "interrupted"
                    break
        finally:
            tokens.close()  # type: ignore[attr-defined]
        thinking, answer = text.finish()
        if thinking or answer:
            yield Chunk(answer, None, time.perf_counter(), thinking)

    def _tokens(self, ids: list[int], sampling: Sampling, limit: int, watch: Watch) -> Iterator[int]:
        """`tokens`, started again with everything so far where the sequence outgrows `stretches_beyond`."""
        border = self.stretches_beyond
        room = limit if border is None or len(ids) > border else min(limit, border + 1 - len(ids))
        history = list(ids)
        for token in self.tokens(ids, sampling, room, watch):
            history.append(token)
            yield token
        if room < limit:
            watch.prefill_done = 0
            again = sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + 1)
            yield from self.tokens(history, again, limit - room, watch)

    def _limit(self, request: Request, prompt_tokens: int, watch: Watch) -> int:
        context = self.info.context_length
        if context is None or prompt_tokens + request.max_tokens <= context:
            return request.max_tokens
        room = context - prompt_tokens
        watch.notes.append(f"max_tokens {request.max_tokens} lowered to {room}: the context holds {context} tokens")
        return room


class TextStream:
    """Token ids to (thinking, answer) text: detokenised, split at thinking markers, cut at stop strings."""

    def __init__(self, tokenizer: Tokenizer, stops: tuple[str, ...], thinking: bool) -> None:
        self._detokenizer = Detokenizer(tokenizer.decode)
        self._splitter = ThinkingSplitter(tokenizer.markers, inside=thinking)
        self._cutter = StopCutter(stops)

    @property
    def stopped(self) -> bool:
        """Whether a stop string was reached."""
        return self._cutter.stopped

    def feed(self, token: int) -> tuple[str, str]:
        """What `token` adds to the thinking and to the answer."""
        thinking, answer = self._splitter.feed(self._detokenizer.feed(token))
        return thinking, self._cutter.feed(answer)

    def finish(self) -> tuple[str, str]:
        """What was held back until the end."""
        thinking, answer = self._splitter.feed(self._detokenizer.finish())
        late_thinking, late_answer = self._splitter.finish()
        answer = self._cutter.feed(answer + late_answer)
        return thinking + late_thinking, answer if self.stopped else answer + self._cutter.finish()


def _seeded(sampling: Sampling, watch: Watch) -> Sampling:
    """Give an unseeded random request a seed of its own, so that its Result can be repeated."""
    if sampling.temperature > 0 and sampling.seed is None:
        sampling = replace(sampling, seed=secrets.randbits(32))
    watch.seed = sampling.seed
    return sampling
