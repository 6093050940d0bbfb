"""Speculative decoding: tokens are guessed cheaply, fed to the model together, and kept as far as it draws the same.

The model's own sampler draws every token, in order, from the model's logits behind the tokens before it. A guess counts
as accepted if it is the token that was drawn. So what comes out is what plain decoding draws with the same seed, greedy
or not, but for the rounding of a forward pass over several rows instead of one: in bfloat16 it can decide a tie.

Source of the draft and verify steps: Leviathan et al., "Fast Inference from Transformers via Speculative Decoding"
(https://arxiv.org/abs/2211.17192). Accepting by equality instead of by a ratio of probabilities is what makes a sampled
answer the one that its seed gives without a draft.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from ..decision import Accepted, Decision, Rejected
from ..errors import OptionError
from ..request import LOOKUP, Request
from ..result import Speculation
from .base import Watch
from .draft_model import DraftModel
from .forced import Forced
from .lookup import PromptLookup

if TYPE_CHECKING:
    from .local import LocalModel

SUBJECT = "draft"

# What guessed where a schema leaves no choice, in a Result's Speculation.
SCHEMA = "schema"


class Decoder(Protocol):
    """A model with a KV state that it is fed into; it keeps the length of its Feed true."""

    def feed(self, tokens: Sequence[int], rows: int) -> Any:
        """Feed tokens in one forward pass; the logits behind the last `rows` of them, for `draw`."""
        ...

    def draw(self, logits: Any, row: int, history: list[int]) -> int:
        """The token after `history`, from one of the rows that `feed` gave."""
        ...

    def cut(self, length: int) -> None:
        """Take back what was fed beyond the first `length` tokens."""
        ...


class Proposer(Protocol):
    """Guesses what comes next."""

    def propose(self, history: list[int], most: int) -> list[int]:
        """Up to `most` tokens that may follow `history`, which has grown since the last call."""
        ...

    def verified(self, proposed: int, accepted: int) -> None:
        """So many tokens of the last proposal were looked at, and so many of them were right."""
        ...

    def close(self, history: list[int]) -> None:
        """Nothing more is asked for: `history` is final."""
        ...


def speculate(first: int, ids: list[int], limit: int, decoder: Decoder, guess: Proposer, watch: Watch) -> Iterator[int]:
    """Yield up to `limit` tokens for the prompt `ids`: `first`, which was drawn already, and what follows.

    Whenever it waits at a yield, and is closed there, the state is cut to all tokens but the last one that it yielded.
    """
    history = [*ids, first]
    end = len(ids) + limit
    try:
        yield first
        while len(history) < end:
            # One token comes of the model itself in any case, and none is fed that no token can follow.
            proposed = guess.propose(history, end - len(history) - 1)
            logits = decoder.feed([history[-1], *proposed], len(proposed) + 1)
            assert watch.speculation is not None
            watch.speculation = watch.speculation.step()
            try:
                yield from _drawn(logits, proposed, history, decoder, guess, watch)
            finally:
                decoder.cut(len(history) - 1)
    finally:
        guess.close(history)


def _drawn(
    logits: Any, proposed: list[int], history: list[int], decoder: Decoder, guess: Proposer, watch: Watch
) -> Iterator[int]:
    """Draw and yield as far as the proposal holds, and one token more. Nothing is drawn before it is asked for."""
    for row in range(len(proposed) + 1):
        token = decoder.draw(logits, row, history)
        history.append(token)
        assert watch.speculation is not None
        watch.speculation = watch.speculation.drawn()
        right = row < len(proposed) and token == proposed[row]
        _count(watch, row, row + 1 if right else len(proposed), right)
        if not right:
            guess.verified(len(proposed), row)
        yield token
        if not right:
            return


def _count(watch: Watch, start: int, end: int, accepted: bool) -> None:
    """Count the guesses at these places of a proposal; those after a wrong one are wrong too."""
    for position in range(start, end):
        assert watch.speculation is not None
        watch.speculation = watch.speculation.verified(position, accepted)


def proposer(model: LocalModel, request: Request, watch: Watch) -> Proposer:
    """What guesses for a request that `checked` let through, or for one whose schema forces tokens."""
    if request.draft is None:
        assert watch.steering is not None
        return Forced(watch.steering)
    if request.draft == LOOKUP:
        return PromptLookup(request.draft_tokens)
    assert watch.draft is not None
    return DraftModel(watch.draft, request, watch)


def checked(model: LocalModel, request: Request, watch: Watch) -> Request:
    """The request as it will be decoded: without its draft where that cannot be used, which a note tells.

    Raises:
        OptionError: a strict request whose draft cannot be used.
    """
    if request.draft is None:
        return request
    verdict = usable(model, request, watch.draft)
    if verdict:
        watch.speculation = Speculation(request.draft)
        return request
    if not any(note.startswith(_refused(request)) for note in watch.notes):
        refuse(request, watch, verdict.reason)
    return replace(request, draft=None, draft_tokens=None)


def forced(model: LocalModel, request: Request, watch: Watch) -> None:
    """Have the tokens that a schema leaves no choice of fed together, where the model can take them back."""
    if request.schema is None or request.draft is not None or watch.steering is None:
        return
    if model.drafts and model.states is not None and model.cuttable(None):
        watch.speculation = Speculation(SCHEMA)


def _refused(request: Request) -> str:
    return f"draft {request.draft} not used"


def refuse(request: Request, watch: Watch, reason: str) -> None:
    """Note why the draft of a request is not used.

    Raises:
        OptionError: the request is strict.
    """
    if request.strict:
        raise OptionError(f"The draft {request.draft} cannot be used: {reason}.", "Leave out draft, or strict.")
    watch.notes.append(f"{_refused(request)}: {reason}")


def usable(model: LocalModel, request: Request, draft: LocalModel | None) -> Decision:
    """Whether a request's draft, a model or a lookup, can speed up `model`."""
    for name, each in {request.model: model, **({str(request.draft): draft} if draft is not None else {})}.items():
        if not each.drafts:
            return Rejected(SUBJECT, f"the {each.info.backend} backend cannot verify several tokens at once")
        if each.states is None or not each.cuttable(None):
            return Rejected(SUBJECT, f"a KV state of {name} cannot be cut back to the tokens that were accepted")
    if request.draft == LOOKUP:
        return Accepted(SUBJECT)
    if draft is None:
        return Rejected(SUBJECT, "it is not loaded")
    if draft.stretches_beyond is not None:
        return Rejected(SUBJECT, "a KV state of it (LongRoPE) depends on the length that it was made for")
    if model.tokenizer.vocabulary == draft.tokenizer.vocabulary:
        return Accepted(SUBJECT, f"{model.tokenizer.vocabulary.size} tokens in common")
    return same_vocabulary(model.tokenizer.inner.get_vocab(), draft.tokenizer.inner.get_vocab())


def same_vocabulary(here: dict[str, int], there: dict[str, int]) -> Decision:
    """Whether two models mean the same by every token id; each maps tokens to ids."""
    if here == there:
        return Accepted(SUBJECT, f"{len(here)} tokens in common")
    apart = sorted(token for token in here.keys() | there.keys() if here.get(token) != there.get(token))
    reason = f"its vocabulary is another one: {len(apart)} tokens differ, {apart[0]!r} among them"
    return Rejected(SUBJECT, reason)
