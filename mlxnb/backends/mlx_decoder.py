"""An MLX model's KV state on its way through speculative decoding: several tokens in, logits behind each, cut back.

mlx-lm has such a loop, `speculative_generate_step`. It is not used: it knows no lookup, draws the draft's tokens from
the random state that the answer's come from, so that a seed gives another answer than without a draft, and feeds the
draft model the whole prompt before the first token, out of reach of an interrupt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..request import Sampling
from .mlx_layers import leaves
from .reuse import Feed
from .steering import Steering

# How far back mlx-lm's repetition penalty looks, in tokens.
REPETITION_CONTEXT = 20

# Steps after which MLX gives freed buffers back, as mlx-lm's own loop does.
TIDY_EVERY = 256


class MlxDecoder:
    """See Decoder. Logits are [rows, vocabulary]; where each is simply the likeliest token, they are those tokens."""

    def __init__(
        self,
        model: Any,
        feed: Feed,
        sampling: Sampling,
        sampler: Callable[[Any], Any],
        processors: Sequence[Callable[[Any, Any], Any]],
        steering: Steering | None = None,
    ) -> None:
        self._model, self._feed = model, feed
        self._sampler, self._processors, self._steering = sampler, processors, steering
        self._plain = sampling.temperature == 0 and not processors and steering is None
        self._steps = 0

    def feed(self, tokens: Sequence[int], rows: int) -> Any:
        """See Decoder."""
        import mlx.core as mx
        from mlx_lm.generate import generation_stream

        with mx.stream(generation_stream):
            logits = self._model(mx.array(list(tokens))[None], cache=self._feed.state)[0, -rows:]
            if self._plain:
                logits = self._sampler(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
            if rows < len(tokens):  # a piece of a prompt: nothing else asks for it soon
                mx.eval(logits, [cache.state for cache in self._feed.state])
        self._feed.length += len(tokens)
        self._steps += 1
        if self._steps % TIDY_EVERY == 0 or len(tokens) >= TIDY_EVERY:
            mx.clear_cache()
        return logits.tolist() if self._plain else logits

    def draw(self, logits: Any, row: int, history: list[int]) -> int:
        """See Decoder."""
        import mlx.core as mx
        from mlx_lm.generate import generation_stream

        if self._plain:
            return int(logits[row])
        with mx.stream(generation_stream):
            own = picked = logits[row : row + 1]
            if self._steering is not None:
                own = picked[:]  # the processors write into what they are given
                picked = self._steering.before(picked, history)
            for process in self._processors:
                picked = process(mx.array(history[-REPETITION_CONTEXT:], mx.int32), picked)
            token = int(self._sampler(picked - mx.logsumexp(picked, keepdims=True)).item())
            if self._steering is not None:
                self._steering.drew(own, history, token)
            return token

    def cut(self, length: int) -> None:
        """See Decoder. Rows beyond the length stay in the buffer until something is written over them."""
        if length < self._feed.length:
            for cache in leaves(self._feed.state):
                cache.trim(self._feed.length - length)
            self._feed.length = length
