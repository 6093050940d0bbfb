"""One token after the other from a model on torch, as mlx-lm's `generate_step`: prompt, samplers and caches in."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ...backends.base import Cancelled, Watch
from ...backends.reuse import Feed
from ...backends.vocabulary import as_ids, check_ids
from ...errors import EmptyPromptError, GenerationError, OptionError, PromptError
from ...runtime import shared_engine
from .model import Model, of
from .prompt_cache import LayerCache, check_same, held_by, joined
from .refusals import refuse
from .sampling import LogitsProcessor, Sampler, make_sampler

if TYPE_CHECKING:
    import torch

    from ...backends.torch import TorchModel

Progress = Callable[[int, int], None]


def generate_step(
    prompt: Any,
    model: Any,
    stream: Any = None,
    *,
    max_tokens: int = 256,
    sampler: Sampler | None = None,
    logits_processors: list[LogitsProcessor] | None = None,
    max_kv_size: int | None = None,
    prompt_cache: list[LayerCache] | None = None,
    prefill_step_size: int = 2048,
    kv_bits: int | None = None,
    kv_group_size: int = 64,
    quantized_kv_start: int = 5000,
    prompt_progress_callback: Progress | None = None,
    input_embeddings: Any = None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (token, logprobs [vocabulary]) until `max_tokens`, -1 for no end; `prompt_cache` is fed in place.

    Samplers, processors and the callback run on the engine's thread. `stream` is an MLX stream there and nothing here.
    `prefill_step_size` is how many tokens of the prompt come between two calls of the callback.

    Raises:
        ValueError: an empty prompt, an option that torch does not have, a cache of another model.
    """
    refuse(max_kv_size=max_kv_size, kv_bits=kv_bits, input_embeddings=input_embeddings)
    ids = token_ids(prompt)
    if not ids:
        raise EmptyPromptError("The prompt has no tokens.", "Give text or token ids.")
    limit = -1 if max_tokens is None else whole_number("max_tokens", max_tokens)
    handle, watch, size = of(model), Watch(), whole_number("prefill_step_size", prefill_step_size, 1)
    check_ids(ids, handle.config.get("vocab_size"), handle.name)
    pick = Pick(sampler or make_sampler(), logits_processors or [])
    ask = Ask(ids, limit, prompt_cache, prompt_progress_callback, size)
    run = handle.run(lambda loaded: _run(handle, loaded, ask, pick, watch))
    engine = shared_engine()
    try:
        while (step := engine.call(lambda: next(run, None))) is not None:
            pick.given += 1
            yield step
    finally:
        watch.cancelled.set()
        if not engine.closed:
            engine.call(run.close)  # type: ignore[attr-defined]


def token_ids(prompt: Any) -> list[int]:
    """A prompt's ids from a list or any kind of array.

    Raises:
        PromptError: they are no whole numbers in one row.
    """
    ids = prompt.tolist() if hasattr(prompt, "tolist") else prompt
    if not isinstance(ids, Iterable) or isinstance(ids, bytes | bytearray | Mapping):
        raise PromptError(f"The prompt is {repr(prompt)[:40]}.", "It takes text, or whole numbers in a row.")
    return as_ids(ids)


def whole_number(name: str, value: Any, least: int | None = None) -> int:
    """`value` as an int.

    Raises:
        OptionError: it is none, or less than `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise OptionError(f"{name} is {value!r}.", "It takes a whole number.") from None
    if least is not None and number < least:
        raise OptionError(f"{name} is {value!r}.", f"It takes a whole number of at least {least}.")
    return number


@dataclass(frozen=True, slots=True)
class Ask:
    """What a generation was asked for."""

    ids: list[int]
    max_tokens: int
    cache: list[LayerCache] | None
    progress: Progress | None
    step: int


@dataclass(slots=True)
class Pick:
    """Chooses a token by the caller's functions, and remembers the log-probabilities that it chose from.

    The functions get tensors of their own, outside inference mode, that they may write to.
    """

    sampler: Sampler
    processors: Sequence[LogitsProcessor]
    logprobs: Any = None
    made: int = 0  # tokens that were yielded on the engine's thread,
    given: int = 0  # and those that the caller got: an interrupt may come between
    _seen: Any = field(default=None, repr=False)

    def __call__(self, logits: torch.Tensor, history: list[int]) -> int:
        """The next token for logits [1, vocabulary] after `history`."""
        import torch

        with torch.inference_mode(False), torch.no_grad():
            logits = logits.clone()
            if self.processors:
                self._see(history, logits.device)
                for process in self.processors:
                    logits = process(self._seen, logits)
            self.logprobs = logits - logits.logsumexp(dim=-1, keepdim=True)
            return _in_vocabulary(self.sampler(self.logprobs), logits.shape[-1])

    def _see(self, history: list[int], device: torch.device) -> None:
        """The tokens so far as a tensor, one appended a step."""
        import torch

        known = 0 if self._seen is None else len(self._seen)
        new = torch.tensor(history[known:], dtype=torch.long, device=device)
        self._seen = new if self._seen is None else torch.cat([self._seen, new])


def _in_vocabulary(drawn: Any, vocabulary: int) -> int:
    token = int(drawn)
    if not 0 <= token < vocabulary:
        raise OptionError(f"The sampler gave the token {token}.", f"The model has {vocabulary} tokens.")
    return token


def _run(model: Model, loaded: TorchModel, ask: Ask, pick: Pick, watch: Watch) -> Iterator[tuple[int, Any]]:
    """The tokens, on the engine's thread."""
    state = model.fresh(loaded) if ask.cache is None else joined(ask.cache, model, loaded)
    steps = _held(loaded, _steps(model, loaded, ask, pick, watch, state))
    next(steps)
    return steps  # type: ignore[return-value]


def _held(loaded: TorchModel, steps: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any] | None]:
    """None, then `steps`: from the first on, the model stays in memory, however long the caller takes between them."""
    with shared_engine().holding(loaded):
        yield None
        yield from steps


def _steps(
    model: Model, loaded: TorchModel, ask: Ask, pick: Pick, watch: Watch, state: Any
) -> Iterator[tuple[int, Any]]:
    """The tokens, started again where the sequence outgrows the model's border (LocalModel.stretches_beyond)."""
    limit = ask.max_tokens if ask.max_tokens >= 0 else sys.maxsize
    room = _room(ask, limit, loaded.stretches_beyond)
    made = []
    for step in _whole(model, loaded, replace(ask, max_tokens=room), pick, watch, state):
        made.append(step[0])
        yield step
    if room < limit and len(made) == room:
        if ask.cache is not None:
            raise OptionError(
                f"The prompt cache would outgrow {loaded.stretches_beyond} tokens, beyond which this model (LongRoPE) "
                "embeds every position anew.",
                "Start again without the cache, the whole text as the prompt.",
            )
        longer = replace(ask, ids=[*ask.ids, *made], max_tokens=limit - room, progress=None)
        yield from _whole(model, loaded, longer, pick, watch, model.fresh(loaded))


def _room(ask: Ask, limit: int, border: int | None) -> int:
    """How many of `limit` tokens can be made before the whole sequence must be computed anew."""
    held = len(ask.ids) + held_by(ask.cache)
    return limit if border is None or (held > border and ask.cache is None) else min(limit, max(0, border + 1 - held))


def _whole(
    model: Model, loaded: TorchModel, ask: Ask, pick: Pick, watch: Watch, state: Any
) -> Iterator[tuple[int, Any]]:
    limit = ask.max_tokens
    if limit == 0:
        return
    # The tokens that a cache came with are not known here: others stand for them, so that places count from its start.
    held = held_by(ask.cache)
    feed = _reporting(ask, state, held)

    def draw(logits: torch.Tensor, history: list[int]) -> int:
        return pick(logits, history[held:])

    tokens = loaded.tokens([0] * held + ask.ids, model.request(), limit, watch, feed, draw)
    last, whole = None, False
    try:
        for token in tokens:
            check_same(feed, state, ask.cache)
            if last is None and ask.progress is not None:
                ask.progress(len(ask.ids), len(ask.ids))
            last, pick.made = token, pick.made + 1
            yield token, pick.logprobs.squeeze(0)
            if loaded.model is None:
                raise GenerationError(
                    f"{model.name} was unloaded while it was answering.", "Ask again: it is loaded anew for that."
                )
        whole = True
    except GeneratorExit:
        whole = True
        raise
    except Cancelled:
        return
    finally:
        tokens.close()  # type: ignore[attr-defined]
        # A token that never reached the caller, as where a wait for it was interrupted, is left out.
        fed = whole and pick.made == pick.given and loaded.model is not None
        if fed and last is not None and ask.cache is not None:
            feed_last(loaded, last, state)


def feed_last(loaded: TorchModel, token: int, state: Any) -> None:
    """Feed the last token too: mlx-lm's caches hold every token that was given out."""
    import torch

    loaded.logits(torch.tensor([[token]]), state)


def _reporting(ask: Ask, state: Any, held: int) -> Feed:
    """A Feed behind `held` tokens that pauses where the caller wants to hear of the prefill: as in mlx-lm up to the
    last token but one.
    """
    if ask.progress is None:
        return Feed(state, held)
    progress, end = ask.progress, len(ask.ids)
    progress(0, end)
    places = (*range(ask.step, end - 1, ask.step), end - 1) if end > 1 else ()
    return Feed(state, held, tuple(held + place for place in places), lambda feed: progress(feed.length - held, end))
