"""Drawing the next token from logits in numpy with mlx-lm's filters, in mlx-lm's order: for libraries that compute
logits and leave the rest to us.
"""

from __future__ import annotations

import math

import numpy as np

from ..request import Sampling
from .torch_sampling import REPETITION_CONTEXT


class NumpySampler:
    """Draws one token id from logits [vocabulary]; its generator is its own, so nothing else disturbs a seed."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = np.random.Generator(np.random.PCG64(sampling.seed))

    def __call__(self, logits: np.ndarray, history: list[int]) -> int:
        """The next token after `history` (prompt and generated ids)."""
        s = self._sampling
        if s.repetition_penalty != 1.0:
            logits = penalise(logits, history[-REPETITION_CONTEXT:], s.repetition_penalty)
        if s.temperature == 0:
            return int(logits.argmax())
        tempered = filtered(logits, s) / s.temperature
        weights = np.exp((tempered - tempered.max()).astype(np.float64))
        # The first token whose share of the whole, summed up, lies beyond a number drawn from [0, 1).
        reached = weights.cumsum()
        return int(np.searchsorted(reached, self._generator.random() * reached[-1], side="right"))


def penalise(logits: np.ndarray, recent: list[int], penalty: float) -> np.ndarray:
    """Logits with those of `recent` tokens divided by `penalty`, or multiplied where negative.

    Source: Keskar et al., CTRL (https://arxiv.org/abs/1909.05858), section 4.1.
    """
    index = np.unique(np.asarray(recent, dtype=np.int64))
    made = logits.copy()
    picked = logits[index]
    made[index] = np.where(picked < 0, picked * penalty, picked / penalty)
    return made


def filtered(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Log-probabilities [vocabulary] in which what top_p, min_p and top_k drop is -inf.

    As in mlx-lm the filters see the distribution before temperature, each what the one before it left.
    """
    logprobs = log_softmax(logits)
    if 0 < sampling.top_p < 1:
        logprobs = _top_p(logprobs, sampling.top_p)
    if sampling.min_p > 0:
        logprobs = np.where(logprobs < logprobs.max() + math.log(sampling.min_p), -np.inf, logprobs)
    if 0 < sampling.top_k < logprobs.size:
        kept = np.argpartition(logprobs, -sampling.top_k)[-sampling.top_k :]
        fewer = np.full_like(logprobs, -np.inf)
        fewer[kept] = logprobs[kept]
        logprobs = fewer
    return logprobs


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """The logarithms of the probabilities over the last axis, in float32."""
    shifted = logits.astype(np.float32) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _top_p(logprobs: np.ndarray, top_p: float) -> np.ndarray:
    """Keep the smallest set of likeliest tokens whose probability reaches `top_p` of the total, ties included."""
    descending = np.sort(logprobs)[::-1]
    so_far = np.exp(descending).cumsum()
    likelier = so_far - np.exp(descending)  # the probability of all tokens before each
    number = int((likelier < top_p * so_far[-1]).sum())
    return np.where(logprobs < descending[max(0, number - 1)], -np.inf, logprobs)
