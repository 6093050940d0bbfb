"""Joins a generation to the prefix cache: what it may start from, what it leaves behind, and what it stopped at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ..cache import KVStates, Prefixes, snapshot_places
from ..errors import in_words


@dataclass(slots=True)
class Feed:
    """A KV state on its way through a generation, owned by it: `state` holds the first `length` tokens.

    The decode loop keeps `length` true. `places` are the lengths at which prefill stops and calls `keep`.
    """

    state: Any
    length: int = 0
    places: tuple[int, ...] = ()
    keep: Callable[[Feed], None] = field(default=lambda feed: None)

    def stops(self, end: int, step: int) -> list[int]:
        """The lengths at which prefill pauses on its way to `end`: at each of `places`, every `step` tokens."""
        found, at = [], self.length
        for border in (*(place for place in self.places if self.length < place < end), end):
            found += [*range(at + step, border, step), border] if border > at else []
            at = border
        return found


@dataclass(frozen=True, slots=True)
class Reuse:
    """The prefix cache as one kind of request on one model sees it.

    `namespace` says what a state depends on beside its tokens; `notes` hears what goes wrong; `prefill_rate` is the
    model's last, in tokens a second, None before the first.
    """

    prefixes: Prefixes
    namespace: str
    states: KVStates
    notes: list[str]
    prefill_rate: Callable[[], float | None] = lambda: None

    def begin(self, ids: Sequence[int], fresh: Any, cuttable: bool, turns: Callable[[], Sequence[int]]) -> Feed:
        """A Feed for a prompt: from the longest prefix that is there, else `fresh`, a state without tokens.

        `cuttable`: a state of this model can be cut back at any time, so that no snapshots are needed. `turns` gives
        the ends, in tokens, of the prompt's system message and earlier turns.
        """
        feed = Feed(fresh, keep=lambda feed: self._snapshot(ids, feed))
        if self.prefixes.refused:
            self.notes.append(f"prefix cache did not keep all of the request before: {self.prefixes.refused}")
            self.prefixes.refused = ""
        with self._guarded():
            found = self.prefixes.lookup(self.namespace, ids, self.states, self.prefill_rate())
            length = 0 if found.state is None else found.length
            places = () if cuttable else snapshot_places(len(ids), length, found.common, turns())
            state = fresh if found.state is None else found.state
            feed = replace(feed, state=state, length=length, places=places)
        return feed

    def _snapshot(self, ids: Sequence[int], feed: Feed) -> None:
        with self._guarded():
            self.prefixes.store(self.namespace, list(ids[: feed.length]), self.states.copy(feed.state), self.states)

    def end(self, tokens: Sequence[int], feed: Feed) -> None:
        """Keep what the generation left: the state of the first `feed.length` of `tokens`.

        The answer is out by now: what cannot be kept is said with the next one.
        """
        if feed.state is not None and feed.length:
            try:
                done = list(tokens[: feed.length])
                self.prefixes.store(self.namespace, done, feed.state, self.states, self.prefill_rate())
            except Exception as err:  # noqa: BLE001 - an edge, as in `_guarded`
                self.prefixes.refused = in_words(err)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Whatever a cache fails of, memory for one, the answer goes on without it, and says so."""
        try:
            yield
        except Exception as err:  # noqa: BLE001 - an edge: what is only there to save time must not cost an answer
            self.notes.append(f"prefix cache not used: {in_words(err)}")
