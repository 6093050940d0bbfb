"""Feeds a prompt in pieces, and goes on with smaller ones where memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..cache.disk import states_of
from .base import Cancelled, Watch
from .local import LocalModel
from .memory import unless_short
from .reuse import Feed

# Tokens of a piece that is not halved any more: a smaller one needs hardly less beside the weights it is multiplied by.
SMALLEST = 16

# How notes on it begin; they tell of one run and nothing of its answer.
SHORT = "memory ran short "


@dataclass(frozen=True, slots=True)
class Feeding:
    """How a model is fed. `take(start, end, feed)` feeds the tokens between two places and gives what comes of it.

    `rewind` brings the Feed back to its `length` tokens after a `take` that failed somewhere on its way through the
    layers, or to none where that cannot be. `whole`: the tokens must go in one piece. `repeats`: a `take` that failed
    can be tried again, which a model that keeps a state of its own cannot.
    """

    model: LocalModel
    watch: Watch
    take: Callable[[int, int, Feed], Any]
    rewind: Callable[[Feed], None]
    whole: bool = False
    repeats: bool = True


def prefill(feed: Feed, end: int, step: int, feeding: Feeding) -> Any:
    """Feed the tokens up to `end`, at most `step` at a time, or as many as the request asks for, so that an interrupt
    can come between; what the last piece gave, None where there was none.

    Where memory runs out the prefix cache in memory goes, what can be is given back, and the rest is fed in pieces half
    as long, down to SMALLEST tokens. They start from a state that is whole.

    Raises:
        Cancelled: between two pieces.
        Exception: what the model raised, also where memory ran out and there is nothing left to try.
    """
    watch, made, last_try = feeding.watch, None, not feeding.repeats
    step = step if feeding.whole else watch.prefill_step or step
    while feed.length < end:
        if watch.cancelled.is_set():
            raise Cancelled
        start, stop = feed.length, feed.stops(end, step)[0]
        found = unless_short(partial(feeding.take, start, stop, feed), last_try)
        if found is None:
            # Once there: a state that starts again from nothing would come to the same place for ever.
            last_try = feeding.whole or stop - start <= SMALLEST
            step = stop - start if feeding.whole else max(SMALLEST, (stop - start) // 2)
            make_room(feed, feeding, f"fed on {step} at a time")
            watch.reused_tokens = min(watch.reused_tokens, feed.length)
            watch.prefill_done = feed.length
            continue
        (made,) = found
        feed.length = watch.prefill_done = stop
        if stop in feed.places:
            feed.keep(feed)
    return made


def step_again(feed: Feed, end: int, step: int, feeding: Feeding) -> Any:
    """Feed the tokens up to `end` once more, after a step of decoding got no memory; what it would have given.

    Raises:
        Exception: what the model raised, also where there is no memory now either.
    """
    make_room(feed, feeding, "tried again")
    done = feeding.watch.prefill_done
    try:
        return prefill(feed, end, step, replace(feeding, repeats=False))
    finally:
        feeding.watch.prefill_done = done


def make_room(feed: Feed, feeding: Feeding, then: str) -> None:
    """Bring `feed` back to a state that is whole, and make room; `then` says how it goes on."""
    reached, notes = feed.length, feeding.watch.notes
    feed.places = ()  # a snapshot is a copy, and there is no room for copies
    feeding.rewind(feed)
    dropped = give_up_caches(feeding.model)
    from_start = "" if feed.length == reached else ", which are fed again"
    said = f"{SHORT}after {reached} tokens{from_start}: {'; '.join([then, *dropped])}"
    if said not in notes:
        notes.append(said)


def give_up_caches(model: LocalModel) -> list[str]:
    """Drop the KV states that are kept for later, in memory and on their way to the disk, and give their memory back;
    what went, in words.
    """
    said = []
    if model.prefixes is not None:
        number, size = model.prefixes.disk.drop_waiting() if model.prefixes.disk is not None else (0, 0)
        if number:
            said.append(f"prefix cache on disk: {states_of(number, size)} not written")
        if len(model.prefixes.memory):
            said.append(str(model.prefixes.memory.shrink(0)))
    model.give_back()
    return said
