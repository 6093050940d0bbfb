"""Ends a model's thinking after so many tokens, by the very text with which it ends it itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .detokenize import Detokenizer
from .steering import Guide, only
from .thinking import splitter

if TYPE_CHECKING:
    import numpy as np

    from .base import Watch
    from .tokenizer import Tokenizer


class ThinkingBudget(Guide):
    """After `budget` tokens inside a block of thinking only the tokens that close it may come, one after the other.

    It reads the text, as whoever splits the answer does: the same words may be in other tokens than the marker's own.
    `inside` where the prompt opened the block. A block that is opened later goes on with what is left of the budget.
    """

    def __init__(self, tokenizer: Tokenizer, budget: int, inside: bool, watch: Watch) -> None:
        assert tokenizer.markers is not None
        self._tokenizer, self._budget, self._inside, self._watch = tokenizer, budget, inside, watch
        self._end = tokenizer.inner.encode(tokenizer.markers[1], add_special_tokens=False)
        self._begin_again()

    def _begin_again(self) -> None:
        self._seen: list[int] = []
        self._spent = 0
        self._left: list[int] = []  # of the tokens that close the block
        self._text = Detokenizer(self._tokenizer.decode)
        self._split = splitter(self._tokenizer.markers, self._inside)
        self._check()

    def allowed(self, made: Sequence[int]) -> np.ndarray | None:
        """See Guide.allowed."""
        self._follow(made)
        return only(self._left[:1], self._left[0] + 1) if self._left else None

    def forced(self, made: Sequence[int]) -> list[int]:
        """See Guide.forced."""
        self._follow(made)
        return list(self._left)

    def drew(self, made: Sequence[int], logits: Any) -> None:
        """See Guide.drew."""
        self._follow(made)

    def _follow(self, made: Sequence[int]) -> None:
        """Take in what is new of an answer; from its beginning where tokens were taken back."""
        known = len(self._seen)
        # Whoever takes tokens back asks about the shorter answer first, so that the last one tells.
        if known > len(made) or (known and self._seen[-1] != made[known - 1]):
            self._begin_again()
        for token in made[len(self._seen) :]:
            self._take(token)

    def _take(self, token: int) -> None:
        before = self._split.inside
        self._seen.append(token)
        self._split.feed(self._text.feed(token))
        if self._left and token == self._left[0]:
            self._left = self._left[1:]
        elif before and self._split.inside:
            self._spent += 1
        self._check()

    def _check(self) -> None:
        if self._left or not self._split.inside or self._spent < self._budget:
            return
        self._left = list(self._end)
        note = f"thinking was ended after {self._budget} tokens"
        if note not in self._watch.notes:
            self._watch.notes.append(note)
