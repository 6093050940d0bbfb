"""What the engine does from second to second, kept as a ring: what a monitor shows, and what can be exported of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

import numpy as np

from ..errors import MlxnbError
from .machine.samples import Sampler

if TYPE_CHECKING:
    from ..result import Timings
    from ..runtime import Engine, Job

# Seconds between two moments, how many of them are kept, and how many of the last answers latencies are told of.
PERIOD, KEPT, LATELY = 1.0, 900, 50
LOOKUPS = 50  # of a cache, which its hit rate is told of


@dataclass(frozen=True, slots=True)
class Moment:
    """One look. `at` in seconds since the epoch; `token_rate` in generated tokens a second since the last look;
    latencies in seconds, percentiles over the last answers that were computed; bytes: of the models in memory, of this
    process, free in the machine; hit rates from 0 to 1 over the last lookups; degrees Celsius. None: not known.
    """

    at: float
    token_rate: float
    running: int
    queued: int
    ttft_50: float | None
    ttft_95: float | None
    tpot_50: float | None
    tpot_95: float | None
    models: int
    process: int
    free: int
    answers_hit: float | None
    prefixes_hit: float | None
    temperature: float | None
    pressure: str | None


@dataclass(slots=True)
class _Counted:
    job: Job
    tokens: int = 0


class Vitals:
    """`with Vitals(engine) as vitals:` looks once a period; `moments` are the last of what it saw.

    It costs a thread that sleeps, and for each token nothing: tokens are counted where the engine notes their times.
    """

    def __init__(self, engine: Engine, period: float = PERIOD, keep: int = KEPT) -> None:
        self._engine, self._period = engine, period
        self._kept: deque[Moment] = deque(maxlen=keep)
        self._lately: deque[Timings] = deque(maxlen=LATELY)
        self._counted: list[_Counted] = []
        self._lock, self._over = Lock(), Event()
        self._sampler = Sampler(time.time, period, keep=1)
        self._looked = time.perf_counter()
        self._thread = Thread(target=self._run, name="mlxnb-vitals", daemon=True)
        self._deafen: Callable[[], None] = lambda: None

    @property
    def moments(self) -> tuple[Moment, ...]:
        """Those that are kept, the oldest first."""
        return tuple(self._kept)

    @property
    def missing(self) -> tuple[str, ...]:
        """What this machine does not tell."""
        return self._sampler.missing

    def __enter__(self) -> Vitals:
        self._sampler.__enter__()
        self._deafen = self._engine.hear(self._hear)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Look no more; what was seen stays. Closing twice is harmless."""
        if self._over.is_set():
            return
        self._over.set()
        self._deafen()
        self._thread.join()
        self._sampler.__exit__(None, None, None)

    def _hear(self, job: Job) -> None:
        with self._lock:
            self._counted.append(_Counted(job))

    def _run(self) -> None:
        while not self._over.wait(self._period):
            self._kept.append(self._look())

    def _look(self) -> Moment:
        status, cache = self._engine.status(), self._engine.cache
        tokens, running = self._tokens()
        now = time.perf_counter()
        past, self._looked = now - self._looked, now
        ttfts = [t.ttft for t in self._lately if t.ttft is not None]
        tpots = [t.tpot for t in self._lately if t.tpot is not None]
        sample = self._sampler.samples[-1] if self._sampler.samples else None
        hits = [cache.hit_rates(kind, LOOKUPS) if cache is not None else [] for kind in ("result", "prefix")]
        return Moment(
            at=time.time(),
            token_rate=tokens / past,
            running=running,
            queued=status.queued,
            ttft_50=_percentile(ttfts, 50),
            ttft_95=_percentile(ttfts, 95),
            tpot_50=_percentile(tpots, 50),
            tpot_95=_percentile(tpots, 95),
            models=sum(info.memory for info in status.loaded),
            process=sample.rss if sample is not None else 0,
            free=status.memory_free,
            answers_hit=hits[0][-1][1] if hits[0] else None,
            prefixes_hit=hits[1][-1][1] if hits[1] else None,
            temperature=sample.temperature if sample is not None else None,
            pressure=sample.pressure if sample is not None else None,
        )

    def _tokens(self) -> tuple[int, int]:
        """Tokens since the last look, and how many requests run."""
        with self._lock:
            counted = list(self._counted)
        new = running = 0
        for each in counted:
            settled, there = each.job.settled, len(each.job.watch.token_times)
            new += max(there - each.tokens, 0)
            each.tokens = there
            running += not settled and each.job.state != "queued"
            if settled:
                self._ended(each)
        return new, running

    def _ended(self, each: _Counted) -> None:
        with self._lock:
            self._counted.remove(each)
        answer = each.job.answer()
        if not isinstance(answer, MlxnbError) and not answer.cached:
            self._lately.append(answer.timings)


def as_csv(moments: tuple[Moment, ...]) -> str:
    """Moments as comma-separated text with a head; what is not known is empty."""
    lines = [",".join(f.name for f in fields(Moment))]
    lines += [",".join("" if value is None else str(value) for value in astuple(moment)) for moment in moments]
    return "\n".join(lines) + "\n"


def _percentile(values: list[float], share: float) -> float | None:
    return float(np.percentile(values, share)) if values else None
