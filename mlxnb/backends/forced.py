"""Tokens that a schema leaves no choice of, fed together: a Proposer whose proposals are always right.

Keys, quotes and commas are most of the tokens of an answer in JSON. Each is drawn all the same, from the logits behind
the tokens before it, so that an answer and its seed are what they are one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .steering import Steering


class Forced:
    """See Proposer."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering

    def propose(self, history: list[int], most: int) -> list[int]:
        """See Proposer."""
        return self._steering.forced(history)[:most]

    def verified(self, proposed: int, accepted: int) -> None:
        """See Proposer. There is nothing to learn from it."""

    def close(self, history: list[int]) -> None:
        """See Proposer."""
