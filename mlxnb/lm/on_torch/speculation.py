"""mlx-lm's speculative decoding on torch: a draft model guesses, the model draws every token itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...backends.base import Cancelled, Watch
from ...backends.draft_model import DraftModel
from ...backends.reuse import Feed
from ...backends.speculative import speculate, usable
from ...backends.torch_kv import STEP, expect
from ...backends.vocabulary import check_ids
from ...errors import EmptyPromptError, GenerationError, OptionError
from ...request import Request
from ...result import Speculation
from ...runtime import shared_engine
from .model import Model, of
from .prompt_cache import LayerCache, check_same, held_by, joined
from .refusals import refuse
from .sampling import LogitsProcessor, Sampler, make_sampler
from .steps import Pick, token_ids, whole_number

if TYPE_CHECKING:
    import torch

    from ...backends.torch import TorchModel


def speculative_generate_step(
    prompt: Any,
    model: Any,
    draft_model: Any,
    stream: Any = None,
    *,
    num_draft_tokens: int = 2,
    max_tokens: int = 256,
    sampler: Sampler | None = None,
    logits_processors: list[LogitsProcessor] | None = None,
    prompt_cache: list[LayerCache] | None = None,
    prefill_step_size: int = 512,
    kv_bits: int | None = None,
    kv_group_size: int = 64,
    quantized_kv_start: int = 5000,
) -> Iterator[tuple[int, torch.Tensor, bool]]:
    """Yield (token, logprobs [vocabulary], whether the draft had guessed it) until `max_tokens`, -1 for no end.

    Every token is the one that the model draws, so that greedy answers are those without a draft. The draft guesses
    greedily, `num_draft_tokens` at most and fewer while it is wrong. `prompt_cache` is that of the model and that of
    the draft in one list; both are fed in place and hold all tokens but the last, as mlx-lm leaves them.

    Raises:
        ValueError: an empty prompt, an option that torch does not have, a cache of another model, a draft of another
            vocabulary, or a model whose KV state cannot be cut back.
    """
    refuse(kv_bits=kv_bits)
    ids, limit = token_ids(prompt), -1 if max_tokens is None else whole_number("max_tokens", max_tokens)
    if not ids:
        raise EmptyPromptError("The prompt has no tokens.", "Give text or token ids.")
    whole_number("prefill_step_size", prefill_step_size, 1)
    handle, second, width = of(model), of(draft_model), whole_number("num_draft_tokens", num_draft_tokens, 0)
    check_ids(ids, handle.config.get("vocab_size"), handle.name)
    request = Request.of("-", model=handle.name, backend="torch", draft=second.name, draft_tokens=max(1, width))
    pick = Pick(sampler or make_sampler(), logits_processors or [])
    ask = Ask(ids, limit if limit >= 0 else sys.maxsize, prompt_cache, replace(request, strict=True), width)
    run = handle.run(lambda loaded: second.run(lambda draft: _run((handle, loaded), (second, draft), ask, pick)))
    engine = shared_engine()
    try:
        while (step := engine.call(lambda: next(run, None))) is not None:
            yield step
    finally:
        ask.watch.cancelled.set()
        if not engine.closed:
            engine.call(run.close)  # type: ignore[attr-defined]


class Ask:
    """What a generation was asked for."""

    def __init__(
        self, ids: list[int], limit: int, cache: list[LayerCache] | None, request: Request, width: int
    ) -> None:
        self.ids, self.limit, self.cache, self.request, self.width = ids, limit, cache, request, width
        self.watch = Watch(speculation=Speculation(str(request.draft)))


@dataclass(frozen=True, slots=True)
class Chosen:
    """A Pick as a TorchDecoder wants it. The first `held` tokens of a history stand for those of a prompt cache."""

    pick: Pick
    held: int
    likeliest: bool = False

    def __call__(self, logits: torch.Tensor, history: list[int]) -> int:
        """The next token for logits [1, vocabulary] after `history`."""
        return self.pick(logits, history[self.held :])


class Draft(DraftModel):
    """A DraftModel over a KV state of its own. With `kept` that is left with all tokens but the last."""

    def __init__(self, model: TorchModel, feed: Feed, ask: Ask) -> None:
        super().__init__(model, ask.request, ask.watch)
        if not ask.width:
            self._most = self._width = 0
        self._kept = ask.cache is not None
        self._feed, self._agreed = feed, feed.length
        self._decoder = model.decoder(feed, self._request)

    def close(self, history: list[int]) -> None:
        """See Proposer."""
        super().close(history)
        feed = self._feed
        if self._kept and feed is not None and feed.state is not None:
            self._watch = Watch()  # the caller has left by now, and its cache is to be whole all the same
            if all(token < self._vocabulary for token in history[feed.length :]):
                self._read(history, feed)


def _run(
    here: tuple[Model, TorchModel], there: tuple[Model, TorchModel], ask: Ask, pick: Pick
) -> Iterator[tuple[int, Any, bool]]:
    """The tokens, on the engine's thread."""
    (model, loaded), (_, draft), watch = here, there, ask.watch
    verdict = usable(loaded, ask.request, draft)
    if not verdict:
        raise OptionError(f"draft_model cannot be used: {verdict.reason}.", "Take another one, or leave it out.")
    if loaded.stretches_beyond is not None:
        raise OptionError(f"{model.name} (LongRoPE) begins anew when it gets long.", "Leave out draft_model.")
    feed, theirs = _feeds(here, there, ask.cache)
    guess, accepted = Draft(draft, theirs, ask), 0
    try:
        for token in _tokens(loaded, feed, guess, ask, pick) if ask.limit else ():
            assert watch.speculation is not None
            guessed, accepted = watch.speculation.accepted > accepted, watch.speculation.accepted
            yield token, pick.logprobs.squeeze(0), guessed
            if loaded.model is None or draft.model is None:
                raise GenerationError(f"{model.name} or its draft was unloaded while it answered.", "Ask again.")
    except Cancelled:
        return


def _tokens(loaded: TorchModel, feed: Feed, guess: Draft, ask: Ask, pick: Pick) -> Iterator[int]:
    import torch

    ids, state = [0] * feed.length + ask.ids, feed.state
    chosen = Chosen(pick, feed.length)
    loaded.use_threads()
    expect(state, len(ids) + min(ask.limit, STEP))
    with torch.inference_mode():
        logits = loaded.prefill(ids, feed, ask.watch)
        check_same(feed, state, ask.cache)
        first = chosen(logits, ids)
    decoder = loaded.decoder(feed, ask.request, chosen)
    yield from speculate(first, ids, ask.limit, decoder, guess, ask.watch)


def _feeds(
    here: tuple[Model, TorchModel], there: tuple[Model, TorchModel], cache: list[LayerCache] | None
) -> tuple[Feed, Feed]:
    """The KV states of both: fresh, or over the parts of a prompt cache that are theirs."""
    fresh = [handle.fresh(loaded) for handle, loaded in (here, there)]
    if cache is None:
        return Feed(fresh[0]), Feed(fresh[1])
    border = len(fresh[0].layers)
    states = [
        joined(part, *of_one) for part, of_one in zip((cache[:border], cache[border:]), (here, there), strict=True)
    ]
    held = [held_by(part) for part in (cache[:border], cache[border:])]
    # Where the draft has seen more, it is cut back when it is first asked; where less, it guesses worse for a while.
    return Feed(states[0], held[0]), Feed(states[1], min(held))
