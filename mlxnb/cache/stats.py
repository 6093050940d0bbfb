"""What the caches were worth: hits, misses, tokens and seconds saved, by model, and the last lookups for a plot."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from threading import Lock
from typing import Literal

Kind = Literal["result", "prefix"]
HISTORY = 2000


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one cache. `tokens` were asked for in all its lookups, `tokens_saved` came from the cache;
    `seconds_saved` is an estimate from the prefill rate, or the time that the stored answer had taken.
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

    def hit(
        self,
        kind: Kind,
        model: str,
        tokens: int,
        saved: int,
        prefill_rate: float | None = None,
        seconds: float | None = None,
    ) -> None:
        """`saved` of `tokens` tokens came from the cache. What that saved is `seconds` where it is known, else
        saved / `prefill_rate` (tokens per second, measured with this model), and not counted where neither is.
        """
        if seconds is None:
            seconds = saved / prefill_rate if prefill_rate else 0.0
        self._record(kind, model, Tally(hits=1, tokens=tokens, tokens_saved=saved, seconds_saved=seconds), True)

    def miss(self, kind: Kind, model: str, tokens: int) -> None:
        """Nothing was found for `tokens` tokens."""
        self._record(kind, model, Tally(misses=1, tokens=tokens), False)

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

    def _record(self, kind: Kind, model: str, more: Tally, hit: bool | None) -> None:
        with self._lock:
            self._tallies[kind, model] = self._tallies.get((kind, model), Tally()) + more
            if hit is not None:
                self._history.append(Seen(time.time(), kind, model, hit))
