"""Several requests computed together: what a backend that can do so offers, and what it knows of each of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..request import Request
from .base import Watch
from .row import Row

SUBJECT = "batch"


@dataclass(slots=True, eq=False)
class Member:
    """A request in a batch. `ids` are the tokens of its prompt, `made` those of its answer so far, at most `limit`.

    `request` has a seed where one matters. `draw` is what its backend keeps to draw tokens with, so that a member that
    left before its end and joined again goes on as if it had stayed. `prefilled` once its prompt was computed.
    """

    request: Request
    watch: Watch
    ids: list[int]
    row: Row
    limit: int
    made: list[int] = field(default_factory=list)
    draw: Any = None
    prefilled: bool = False

    @property
    def history(self) -> list[int]:
        """Prompt and answer so far: what its KV state has to hold before it goes on."""
        return self.ids + self.made

    @property
    def longest(self) -> int:
        """Tokens that it comes to at most, its prompt included."""
        return len(self.ids) + self.limit

    def over(self) -> bool:
        """Whether it is done."""
        return self.row.over() or len(self.made) >= self.limit


class Batch(ABC):
    """Requests of one model that are decoded together. Used on the engine's thread only.

    What holds for their answers: in float32 each is what the request gives alone, token by token, as long as no two
    tokens are within rounding of each other. A matrix product may sum in another order for another number of rows, so
    in bfloat16, float16 and quantised weights a near tie can go the other way; a seeded draw repeats likewise.
    """

    members: list[Member]

    @abstractmethod
    def join(self, member: Member) -> list[tuple[Member, int]]:
        """Prefill a member alone and take it in; its first token where that is known by now.

        Raises:
            Cancelled: by its Watch, between two pieces of the prompt.
        """

    @abstractmethod
    def step(self) -> list[tuple[Member, int]]:
        """The next token of every member that has one by now."""

    @abstractmethod
    def leave(self, members: Sequence[Member]) -> None:
        """Take members out, at whatever point they are."""

    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of the KV state of all members, with what is reserved for their growth."""

    @abstractmethod
    def after(self, tokens: int) -> int:
        """What `nbytes` comes to at most where one more member joins, which comes to so many tokens. Asked of a batch
        that has members.
        """

    @abstractmethod
    def close(self) -> None:
        """Drop every member and every tensor."""
