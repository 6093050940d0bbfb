"""Steering in mlx-lm's own decode loops, which know a token only after they have asked for what follows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .steering import Steering


class SteeringProcessor:
    """A logits processor of mlx-lm for one answer, called first of all with the prompt `ids`.

    mlx-lm builds the forward pass over a token before that token is computed, and hands it over later still. So the
    token is waited for here, the forward pass is begun, and what may follow is worked out meanwhile. In a batch it is
    not begun: the next row waits for its own token, which would be computed behind it.
    """

    def __init__(self, steering: Steering, ids: Sequence[int], alone: bool = True) -> None:
        self._steering, self._history, self._alone = steering, list(ids), alone
        self._before: Any = None  # the logits that the token which is waited for was drawn from
        self._drawn: Any = None  # that token, as the sampler gave it

    def __call__(self, tokens: Any, logits: Any) -> Any:
        """Logits [1, vocabulary] behind `tokens`, the last of which was drawn since the call before."""
        import mlx.core as mx

        if self._before is not None:
            token = int((tokens[-1] if self._drawn is None else self._drawn).item())
            if self._alone:
                mx.async_eval(logits)
            self._steering.drew(self._before, self._history, token)
            self._history.append(token)
        self._before = logits[:]  # of its own: the processors behind this one write into what they are given
        return self._steering.before(logits, self._history)

    def hearing(self, sampler: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A sampler whose token is waited for as it is: to take it out of all the tokens is one more computation."""

        def heard(logprobs: Any) -> Any:
            self._drawn = sampler(logprobs)
            return self._drawn

        return heard


def steering_processors(steering: Steering | None, ids: Sequence[int], alone: bool = True) -> list[Any]:
    """What steers in a list of logits processors, ahead of all others: it wants the model's own logits."""
    return [] if steering is None else [SteeringProcessor(steering, ids, alone)]
