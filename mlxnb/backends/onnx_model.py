"""A model of onnxruntime-genai, decoded by a loop of our own: tokens in, logits out, the next one drawn here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache.private import secret_in
from ..cache.states import common_prefix, key_of
from ..decision import Decision, Rejected
from ..request import Request
from .base import ModelInfo, Watch
from .local import SUBJECT, LocalModel, said
from .memory import release
from .numpy_sampling import NumpySampler, log_softmax
from .onnx_sequence import OnnxSequence, capacity_for
from .prefill import Feeding, prefill
from .reuse import Feed
from .steering import steered
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from ..models import Checkpoint

# Tokens of a prompt that are fed at once: between two pieces an interrupt can come.
PIECE = 256

# Of log-probabilities that are on this side at a time.
ROWS_BYTES = 32 << 20


class OnnxModel(LocalModel):
    """See LocalModel. The library shares its KV states with nobody, so that no prefix cache can keep them; the sequence
    of the last request stays, and the next one goes on from what both begin with.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, info: ModelInfo, checkpoint: Checkpoint) -> None:
        super().__init__(tokenizer)
        self.model = model
        self.info = info
        self.checkpoint = checkpoint
        self._vocabulary = int(checkpoint.config["vocab_size"])
        self._piece = min(PIECE, checkpoint.shape.window or PIECE)  # a cache that slides takes no more at once
        self._kept: tuple[list[int], OnnxSequence] | None = None

    def new_state(self, request: Request, watch: Watch) -> OnnxSequence:
        """See LocalModel.new_state."""
        return self._sequence(self.longest(request))

    def keeps(self, request: Request) -> Decision:
        """See LocalModel.keeps."""
        return Rejected(SUBJECT, "onnxruntime-genai keeps its KV states to itself: only the last request's can be used")

    def begin(self, ids: list[int], history: list[int], request: Request, watch: Watch) -> Feed:
        """See LocalModel.begin. From the sequence of the last request, as far as that began with the same tokens."""
        kept, self._kept = self._kept, None
        feed = Feed(self._sequence(self.longest(request, len(ids))))
        if request.cache == "off" or self.prefixes is None:  # an engine without caches keeps nothing
            return feed
        if secret := secret_in(said(request)):
            watch.notes.append(f"prefix cache not used: the prompt holds {secret}")
            return feed
        if kept is not None and kept[1].capacity >= feed.state.capacity:
            common = min(common_prefix(key_of(kept[0]), key_of(ids)), len(ids) - 1)
            feed = _gone_on(kept[1], common) or feed
        watch.afterwards.append(lambda: self._keep(history, feed))
        return feed

    def _keep(self, history: list[int], feed: Feed) -> None:
        if feed.state is not None and feed.length:
            self._kept = history[: feed.length], feed.state

    def _sequence(self, tokens: int) -> OnnxSequence:
        return OnnxSequence(self.model, capacity_for(tokens, self.info.context_length or tokens))

    def tokens(self, ids: list[int], request: Request, limit: int, watch: Watch, feed: Feed) -> Iterator[int]:
        """See LocalModel.tokens."""

        def take(start: int, end: int, feed: Feed) -> np.ndarray:
            return feed.state.feed(ids[start:end])

        def rewind(feed: Feed) -> None:
            # What was fed in part nobody knows.
            feed.state, feed.length = OnnxSequence(self.model, feed.state.capacity), 0

        sampler, history = steered(NumpySampler(request.sampling), watch.steering), list(ids)
        token = sampler(prefill(feed, len(ids), self._piece, Feeding(self, watch, take, rewind)), ids)
        for _ in range(limit - 1):
            yield token
            history.append(token)
            logits = feed.state.feed([token])
            feed.length += 1
            token = sampler(logits, history)
        yield token

    def losses(self, ids: list[int]) -> list[float]:
        """See LocalModel.losses."""
        losses: list[float] = []
        for rows in self.log_probs(ids):
            right = ids[len(losses) + 1 : len(losses) + 1 + len(rows)]
            losses += (-rows[np.arange(len(right)), right]).tolist()
        return losses

    def log_probs(self, ids: list[int]) -> Iterator[np.ndarray]:
        """For every token but the last of `ids`, how likely each token is to follow it and those before it: pieces of
        log-probabilities [positions, vocabulary] in order, in float32.
        """
        given = ids[:-1]
        # A graph may give the logits behind the last token of a piece only.
        alone = len(self._sequence(2).rows(given[:1] * 2)) < 2 if given else False
        step = 1 if alone else max(1, min(self._piece, ROWS_BYTES // (4 * self._vocabulary)))
        sequence = self._sequence(len(ids))
        for start in range(0, len(given), step):
            yield log_softmax(sequence.rows(given[start : start + step]))

    def give_back(self) -> None:
        """See LocalModel.give_back."""
        self._kept = None
        release()

    def close(self) -> None:
        """Drop the model, after the sequence that holds on to it."""
        self._kept = self.model = None
        release()


def _gone_on(sequence: OnnxSequence, common: int) -> Feed | None:
    """The sequence cut back to the tokens that it has in common with the next prompt; None where it cannot be cut."""
    if not common:
        return None
    try:
        sequence.cut(common)
    except RuntimeError:  # a sliding window that has moved on
        return None
    return Feed(sequence, common)
