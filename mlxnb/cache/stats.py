"""What the caches were worth: hits, misses, tokens and seconds saved, by model, and the last lookups for a plot."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from itertools import islice
from threading import Lock
from typing import Literal

Kind = Literal["result", "prefix"]
HISTORY = 2000
WORTH_COUNTING = 16  # tokens


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one cache.

    | figure | definition |
    | --- | --- |
    | hits | lookups with an answer, or that reused at least 16 tokens or half of the prompt |
    | misses | all others: what every chat begins with is reused too, and says nothing of what the cache is worth |
    | hit rate | hits / (hits + misses); undefined before the first lookup |
    | tokens | tokens of the prompts of all lookups |
    | tokens saved | of these, the ones that were not computed, in misses too |
    | seconds saved | an estimate: tokens saved / measured prefill rate, or the time that the stored answer had taken |
    | evictions | entries dropped for want of room |
    """

    hits: int = 0
    misses: int = 0
    tokens: int = 0
    tokens_saved: int = 0
    seconds_saved: float = 0.0
    evictions: int = 0

    @property
    def hit_rate(self) -> float | None:
        """Hits among lookups; None before the first."""
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else None

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Seen:
    """One lookup: `time` in seconds since the epoch, the cache, the model, and whether it hit."""

    time: float
    kind: Kind
    model: str
    hit: bool


class Ledger:
    """Counts for every thread. A model may be counted under its namespace; `label` gives it the name that is shown."""

    def __init__(self, history: int = HISTORY) -> None:
        self._lock = Lock()
        self._tallies: dict[tuple[Kind, str], Tally] = {}
        self._history: deque[Seen] = deque(maxlen=history)
        self._labels: dict[str, str] = {}

    def label(self, namespace: str, model: str) -> None:
        """Show what is counted under `namespace` as `model`; several namespaces may share one."""
        with self._lock:
            self._labels[namespace] = model

    def name(self, namespace: str) -> str:
        """The name that is shown for a namespace; the empty string where none was given."""
        with self._lock:
            return self._labels.get(namespace, "")

    def looked_up(
        self,
        kind: Kind,
        model: str,
        tokens: int,
        saved: int = 0,
        prefill_rate: float | None = None,
        seconds: float | None = None,
    ) -> None:
        """`saved` of a prompt's `tokens` tokens came from the cache: a hit or a miss, see Tally. What that saved is
        `seconds` where it is known, else saved / `prefill_rate` (tokens per second, measured with this model), and not
        counted where neither is.
        """
        if seconds is None:
            seconds = saved / prefill_rate if prefill_rate else 0.0
        hit = saved >= min(WORTH_COUNTING, max(1, tokens / 2))
        self._record(kind, model, Tally(int(hit), int(not hit), tokens, saved, seconds), hit)

    def evicted(self, kind: Kind, model: str, count: int = 1) -> None:
        """Entries were dropped for want of room."""
        self._record(kind, model, Tally(evictions=count), None)

    def tally(self, kind: Kind, model: str | None = None) -> Tally:
        """The counts of one cache, of one model or in all."""
        return sum((t for name, t in self.by_model(kind).items() if model in (None, name)), Tally())

    def by_model(self, kind: Kind) -> dict[str, Tally]:
        """The counts of one cache, by the models' shown names."""
        counted: dict[str, Tally] = {}
        with self._lock:
            for (of_kind, model), tally in self._tallies.items():
                if of_kind == kind:
                    name = self._labels.get(model, model)
                    counted[name] = counted.get(name, Tally()) + tally
        return dict(sorted(counted.items()))

    def history(self, kind: Kind | None = None) -> list[Seen]:
        """The last lookups, the oldest first, under the models' shown names."""
        with self._lock:
            seen = [replace(s, model=self._labels.get(s.model, s.model)) for s in self._history]
        return [s for s in seen if kind in (None, s.kind)]

    def hit_rates(self, kind: Kind, window: int = 20) -> list[tuple[float, float]]:
        """(time, hit rate of the last `window` lookups up to then) at each lookup of one cache."""
        seen = self.history(kind)
        spans = ((s.time, seen[max(0, i + 1 - window) : i + 1]) for i, s in enumerate(seen))
        return [(at, sum(s.hit for s in span) / len(span)) for at, span in spans]

    def recent_hits(self, kind: Kind, window: int) -> tuple[int, int]:
        """(hits, lookups) of the last `window` lookups of one cache; quick enough to be asked every second."""
        with self._lock:
            found = list(islice((seen.hit for seen in reversed(self._history) if seen.kind == kind), window))
        return sum(found), len(found)

    def _record(self, kind: Kind, model: str, more: Tally, hit: bool | None) -> None:
        with self._lock:
            self._tallies[kind, model] = self._tallies.get((kind, model), Tally()) + more
            if hit is not None:
                self._history.append(Seen(time.time(), kind, model, hit))
