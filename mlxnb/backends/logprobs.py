"""How likely each token of an answer was, and what else might have come: noted at the hook, told with the Result.

What is told is the log-softmax of the model's own logits, before temperature, repetition penalty, filters and a
schema's mask: what OpenAI's API and vLLM's `raw_logprobs` tell. So the sum over an answer is minus the sum of the
losses of the same tokens, whatever the sampling was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..result import TokenLogprob
from .detokenize import Detokenizer
from .steering import Guide

if TYPE_CHECKING:
    from .tokenizer import Tokenizer

# A token and its log-probability.
Likely = tuple[int, float]


class LogprobGuide(Guide):
    """Forbids nothing; notes each token's log-probability and those of the `most` likeliest."""

    def __init__(self, tokenizer: Tokenizer, most: int) -> None:
        self._tokenizer, self._most = tokenizer, most
        self._noted: list[tuple[Likely, list[Likely]]] = []
        self._texts: dict[int, str] = {}

    def drew(self, made: Sequence[int], logits: Any) -> None:
        """See Guide.drew."""
        del self._noted[len(made) - 1 :]
        self._noted.append(likeliest(in_numpy(logits), made[-1], self._most))

    def told(self, tokens: Sequence[int]) -> tuple[TokenLogprob, ...]:
        """An entry for each of an answer's tokens, which are those that were noted, or the first of them."""
        detokenizer, entries = Detokenizer(self._tokenizer.decode), []
        for token, ((_, logprob), top) in zip(tokens, self._noted, strict=False):
            beside = tuple(TokenLogprob(other, self._text(other), likely) for other, likely in top)
            entries.append(TokenLogprob(token, detokenizer.feed(token), logprob, beside))
        return tuple(entries)

    def _text(self, token: int) -> str:
        """What a token adds behind other text; the name of one that adds none, such as the end of a turn."""
        if token not in self._texts:
            before = self._tokenizer.inner.encode("a", add_special_tokens=False)
            start, whole = self._tokenizer.decode(before), self._tokenizer.decode([*before, token])
            named = self._tokenizer.inner.decode([token], skip_special_tokens=False)
            self._texts[token] = named if whole == start else whole.removeprefix(start)
        return self._texts[token]


def likeliest(logits: np.ndarray, token: int, most: int) -> tuple[Likely, list[Likely]]:
    """A token with its log-probability in logits [vocabulary], and the `most` likeliest; of equals the first."""
    highest = float(logits.max())
    scale = highest + math.log(np.exp(logits - np.float32(highest)).sum(dtype=np.float64))
    most = min(most, logits.size)
    # All that are as likely as the last one wanted: a part sort takes any of those that are equal.
    floor = np.partition(logits, logits.size - most)[logits.size - most] if most else math.inf
    ids = np.flatnonzero(logits >= floor) if most else np.empty(0, np.intp)
    ids = ids[np.argsort(-logits[ids], kind="stable")][:most]
    return (token, float(logits[token]) - scale), [(int(i), float(logits[i]) - scale) for i in ids]


def in_numpy(logits: Any) -> np.ndarray:
    """Logits [vocabulary] or [1, vocabulary] of torch, mlx or numpy as float32 [vocabulary] on this side."""
    library = type(logits).__module__.partition(".")[0]
    if library == "torch":
        return logits.detach().reshape(-1).float().cpu().numpy()
    if library == "mlx":
        import mlx.core as mx

        return np.array(logits.reshape(-1).astype(mx.float32))
    return np.asarray(logits, np.float32).reshape(-1)
