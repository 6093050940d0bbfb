"""Perplexity of a loaded model over token sequences: one figure for what a dtype or a quantisation costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import OptionError


@dataclass(frozen=True, slots=True)
class Perplexity:
    """exp of the mean negative log-likelihood in nats, over `tokens` tokens. Lower is better."""

    value: float
    tokens: int


class Predicts(Protocol):
    """What `perplexity` asks of a model; those of both backends have it."""

    def losses(self, ids: list[int]) -> list[float]:
        """The negative log-likelihood in nats of every token but the first, given those before it."""
        ...


def perplexity(model: Predicts, texts: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Perplexity:
    """The perplexity of each text's tokens after what is given before it, both as token ids.

    The first token of a text with nothing before it is not counted, as nothing predicts it. To be called on the
    engine's thread.

    Raises:
        OptionError: there is no token to predict.
    """
    total, tokens = 0.0, 0
    for given, text in texts:
        losses = model.losses([*given, *text])[max(0, len(given) - 1) :]
        total, tokens = total + math.fsum(losses), tokens + len(losses)
    if not tokens:
        raise OptionError("There is no token to predict.", "Give texts of at least two tokens.")
    return Perplexity(math.exp(total / tokens), tokens)
