"""A draft model: a smaller model of the same vocabulary that says greedily what the larger one may say next."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import in_words
from ..request import Request
from .base import Watch
from .reuse import Feed

if TYPE_CHECKING:
    from .local import LocalModel

# What is proposed at most, unless the request says otherwise: each costs a step of the draft; not tuned by measurement.
MOST = 4

# Useless proposals in a row before it rests, and the steps that it rests at most.
PATIENCE, REST = 3, 16

# Tokens of the prompt that it reads at a time: the grain of an interrupt.
PIECE = 256


class DraftModel:
    """A Proposer with a KV state of its own, from the prefix cache as far as that has the prompt.

    It reads the prompt when it is first asked, which is after the first token of the answer. It proposes one token more
    after a proposal that was right throughout, and one less after one that was not, down to a single one. After
    `PATIENCE` that were wrong from their first token on it lets steps pass, twice as many each time, up to `REST`: a
    model that is of no use costs little.
    """

    def __init__(self, model: LocalModel, request: Request, watch: Watch) -> None:
        # It is never drawn from at random: the seed's draws belong to the larger model.
        sampling = replace(request.sampling, temperature=0.0, repetition_penalty=1.0)
        self._request = replace(request, sampling=sampling, kv_bits=None, kv_group_size=None)
        self._model, self._watch = model, watch
        self._most = request.draft_tokens if request.draft_tokens is not None else MOST
        self._width, self._agreed = self._most, 0
        self._wrong, self._resting = 0, 0
        self._vocabulary = model.tokenizer.vocabulary.size
        self._feed: Feed | None = None

    def propose(self, history: list[int], most: int) -> list[int]:
        """See Proposer. Nothing where the text is beyond the draft model's context, or while a cancel is under way."""
        most = min(most, self._width, self._room(len(history)))
        if most < 1 or self._resting:
            self._resting = max(0, self._resting - 1)
            return []
        try:
            feed = self._begun(history)
            self._decoder.cut(min(feed.length, self._agreed))
            return self._guess(history, feed, most)
        except Exception as err:  # noqa: BLE001 - an edge: what is only there to save time must not cost an answer
            self._give_up(err)
            return []

    def _give_up(self, err: Exception) -> None:
        if self._feed is not None:
            self._feed.state = None  # fed in part, perhaps: nobody may keep it
        if self._request.strict:
            raise err
        self._most = self._width = 0
        self._watch.notes.append(f"draft {self._request.draft} given up on the way: {in_words(err)}")

    def _guess(self, history: list[int], feed: Feed, most: int) -> list[int]:
        # Rows of an embedding that no token has: the other model may have more of them.
        if any(token >= self._vocabulary for token in history[feed.length :]) or not self._read(history, feed):
            return []
        self._agreed = len(history)
        proposed: list[int] = []
        fed = history[-1:]
        while len(proposed) < most:
            token = self._decoder.draw(self._decoder.feed(fed, 1), 0, history)
            if token >= self._vocabulary:
                break
            proposed.append(token)
            fed = [token]
        return proposed

    def verified(self, proposed: int, accepted: int) -> None:
        """See Proposer."""
        if not proposed:
            return
        self._agreed += accepted
        self._wrong = 0 if accepted else self._wrong + 1
        if self._wrong >= PATIENCE:
            self._resting = min(REST, 2 ** (self._wrong - PATIENCE))
        self._width = min(self._most, self._width + 1 if accepted == proposed else max(1, self._width - 1))

    def close(self, history: list[int]) -> None:
        """See Proposer. What it has of the text stays true, for the prefix cache."""
        if self._feed is not None and self._feed.state is not None:
            agreed = min(self._agreed, len(history))
            self._decoder.cut(min(self._feed.length, agreed))

    def _room(self, length: int) -> int:
        """How many tokens it can propose after `length` of them."""
        context = self._model.info.context_length
        if context is None or length + self._width <= context:
            return self._width
        note = f"draft {self._request.draft} not used beyond its context of {context} tokens"
        if note not in self._watch.notes:
            self._watch.notes.append(note)
        return context - length

    def _begun(self, history: list[int]) -> Feed:
        if self._feed is None:
            watch = Watch(self._watch.cancelled, notes=self._watch.notes, afterwards=self._watch.afterwards)
            self._feed = self._model.begin(history, history, self._request, watch)
            self._decoder = self._model.decoder(self._feed, self._request)
            self._agreed = self._feed.length
        return self._feed

    def _read(self, history: list[int], feed: Feed) -> bool:
        """Feed all but the last token; whether it got there before a cancel."""
        for end in feed.stops(len(history) - 1, PIECE):
            if self._watch.cancelled.is_set():
                return False
            self._decoder.feed(history[feed.length : end], 1)
            self._agreed = feed.length
        return True
