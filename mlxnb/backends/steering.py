"""The one hook into every decode loop: what may forbid tokens before one is drawn, and hears which one was.

A decode loop calls `before` with the model's own logits of one position, draws from what that gives back, and calls
`drew` with the token. It sees the tokens that are drawn of the model itself, in order: in speculative decoding the ones
that were guessed right among them. Sampling stays what it is, in its order, on what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..errors import GenerationError, MlxnbError
from .masks import Mask
from .panics import as_error, is_panic


class Guide:
    """One reason to steer an answer. `made` are its tokens so far, without the prompt.

    What is called twice for the same place of an answer goes on from the second call: a batch that ran short of memory
    takes back a token that nobody saw, and a row that comes again may be asked about a beginning of what it had.
    """

    @property
    def over(self) -> bool:
        """Whether the answer is complete with the last token that was drawn, so that no more are wanted."""
        return False

    def allowed(self, made: Sequence[int]) -> np.ndarray | None:
        """The tokens that may come next, a bit each in uint32 words, the lowest bit first; None for all of them.
        Ids beyond its last word may not.
        """
        return None

    def forced(self, made: Sequence[int]) -> list[int]:
        """The tokens that come next in any case, as far as that is known: each the only one that is allowed then."""
        return []

    def drew(self, made: Sequence[int], logits: Any) -> None:
        """The last of `made` was drawn where the model gave these logits, before any mask: of the backend's own arrays,
        [1, vocabulary] in torch and mlx, [vocabulary] in numpy. They hold until this returns.
        """


class Draw(Protocol):
    """Draws the next token from logits, after a history of prompt and answer."""

    def __call__(self, logits: Any, history: list[int]) -> int:
        """The token's id."""
        ...


class Steering:
    """The guides of one answer, whose prompt has `start` tokens. `history` is the prompt with the answer so far."""

    def __init__(self, guides: Sequence[Guide], start: int) -> None:
        self.guides = tuple(guides)
        self._start = start
        self._failed: Exception | None = None
        self._mask = Mask()

    @property
    def over(self) -> bool:
        """Whether one of them says that the answer is complete, or failed."""
        return self._failed is not None or any(guide.over for guide in self.guides)

    def check(self) -> None:
        """Called where a token is taken. What fails while a token is drawn is kept until then: rows of a batch are
        drawn together, and it is the end of one of them alone.

        Raises:
            GenerationError: no token at all may follow, or a guide cannot go on.
        """
        if self._failed is not None:
            raise self._failed

    def _keep(self, err: BaseException) -> None:
        if isinstance(err, MlxnbError):
            self._failed = err
        elif is_panic(err):
            self._failed = as_error(err)
        else:
            raise err

    def before(self, logits: Any, history: list[int]) -> Any:
        """The logits of the next position with those of tokens that may not come at minus infinity."""
        if self.over:  # asked ahead, for a token that nobody is going to see
            return logits
        try:
            words = self.allowed(history)
        except BaseException as err:  # noqa: BLE001 - what is none of ours is raised again
            self._keep(err)
            return logits
        return logits if words is None else self._mask(logits, words)

    def allowed(self, history: list[int]) -> np.ndarray | None:
        """The tokens that every guide allows, see Guide.allowed."""
        made, words = history[self._start :], None
        for guide in self.guides:
            found = guide.allowed(made)
            if found is not None:
                words = found if words is None else _both(words, found)
        if words is not None and not words.any():
            raise GenerationError("No token may follow here: what is asked of this answer contradicts itself.")
        return words

    def forced(self, history: list[int]) -> list[int]:
        """The tokens that come next in any case, see Guide.forced."""
        if self.over:
            return []
        made = history[self._start :]
        try:
            found = [forced for guide in self.guides if (forced := guide.forced(made))]
        except BaseException as err:  # noqa: BLE001 - as in `before`
            self._keep(err)
            return []
        return found[0] if len({each[0] for each in found}) == 1 else []  # of two that differ `before` tells

    def drew(self, logits: Any, history: list[int], token: int) -> None:
        """`token` was drawn after `history`; `logits` are the model's own, as `before` got them."""
        made = [*history[self._start :], token]
        try:
            for guide in self.guides:
                guide.drew(made, logits)
        except BaseException as err:  # noqa: BLE001 - as in `before`
            self._keep(err)


class Steered:
    """A Draw that is steered. Never simply the likeliest token of all; see TorchDecoder.

    A token that comes in any case is not drawn: that takes no mask, no time and no random number.
    """

    likeliest = False

    def __init__(self, draw: Draw, steering: Steering) -> None:
        self._draw, self._steering = draw, steering

    def __call__(self, logits: Any, history: list[int]) -> int:
        """See Draw."""
        forced = self._steering.forced(history)
        token = forced[0] if forced else self._draw(self._steering.before(logits, history), history)
        self._steering.drew(logits, history, token)
        return token


def steered(draw: Any, steering: Steering | None) -> Any:
    """A Draw as it is, or steered where there is something to steer it."""
    return draw if steering is None else Steered(draw, steering)


def only(tokens: Sequence[int], size: int) -> np.ndarray:
    """The words that allow these tokens of `size` in all and no other; see Guide.allowed."""
    words = np.zeros((size + 31) // 32, np.uint32)
    for token in tokens:
        words[token // 32] |= np.uint32(1) << np.uint32(token % 32)
    return words


def _both(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    shorter = min(one.size, other.size)
    return one[:shorter] & other[:shorter]
