"""How far a model's predictions are from another's on the same text: what a conversion or a quantisation costs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Positions from which the 99th percentile says something.
ENOUGH = 100


@dataclass(frozen=True, slots=True)
class Divergence:
    """A model against its source over `tokens` predicted tokens.

    kl_mean, kl_p99: Kullback-Leibler divergence of the source from the model, in nats a token; the percentile is None
    below ENOUGH tokens. source_perplexity, perplexity: of the text, see Perplexity. agreement: the share of positions
    where both find the same token likeliest.
    """

    tokens: int
    kl_mean: float
    kl_p99: float | None
    source_perplexity: float
    perplexity: float
    agreement: float


def kl_divergence(source: Any, other: Any) -> Any:
    """Σ p · (log p − log q) of every row, in nats, for rows [positions, vocabulary] of logits or log-probabilities.

    Each row is normalised in float64, so that it is never below zero by more than rounding, which is cut off; where
    both rows are equal it is zero exactly. An outcome that the source gives no chance at all adds nothing.
    """
    p, q = _normalised(source), _normalised(other)
    chance = np.exp(p)
    with np.errstate(invalid="ignore"):  # −∞ − −∞, where there is no chance
        terms = np.where(chance > 0, chance * (p - q), 0.0)
    return np.maximum(terms.sum(-1), 0.0)


def _normalised(rows: Any) -> Any:
    rows = np.asarray(rows, np.float64)
    rows = rows - rows.max(-1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(-1, keepdims=True))


@dataclass(slots=True)
class Tally:
    """Adds up pieces of a comparison."""

    kl: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    source_losses: list[float] = field(default_factory=list)
    equal: int = 0

    def add(self, source: Any, other: Any, following: Iterable[int]) -> None:
        """Rows [positions, vocabulary] of log-probabilities from both models, and the tokens that really followed."""
        tokens = np.asarray(list(following))
        places = np.arange(len(tokens))
        self.kl += kl_divergence(source, other).tolist()
        self.source_losses += (-source[places, tokens]).tolist()
        self.losses += (-other[places, tokens]).tolist()
        self.equal += int((source.argmax(-1) == other.argmax(-1)).sum())

    def result(self) -> Divergence:
        """What was added, in figures; at least one row was."""
        count = len(self.kl)
        return Divergence(
            tokens=count,
            kl_mean=math.fsum(self.kl) / count,
            kl_p99=float(np.percentile(self.kl, 99)) if count >= ENOUGH else None,
            source_perplexity=_exp(math.fsum(self.source_losses) / count),
            perplexity=_exp(math.fsum(self.losses) / count),
            agreement=self.equal / count,
        )


def _exp(loss: float) -> float:
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
