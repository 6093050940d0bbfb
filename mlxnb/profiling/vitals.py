"""What the engine does from second to second, kept as a ring: what a monitor shows, and what can be exported of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from ..errors import MlxnbError
from .judge.figures import percentile
from .machine.samples import Sampler
from .moments import Moment

if TYPE_CHECKING:
    from ..runtime import Engine, Job

# Seconds between two moments, how many of them are kept, and how many of the last answers latencies are told of.
PERIOD, KEPT, LATELY = 1.0, 900, 50
LOOKUPS = 50  # of a cache, which its hit rate is told of
STALE = 5.0  # seconds after which what the machine told is no longer so


@dataclass(slots=True)
class _Counted:
    job: Job
    tokens: int


class Vitals:
    """`with Vitals(engine) as vitals:` looks once a period; `moments` are the last of what it saw, `failed` is why it
    looks no more.

    It costs a thread that sleeps, and for each token nothing: tokens are counted where the engine notes their times.
    """

    def __init__(self, engine: Engine, period: float = PERIOD, keep: int = KEPT) -> None:
        self._engine, self._period = engine, period
        self._kept: deque[Moment] = deque(maxlen=keep)
        self._ttfts: deque[float] = deque(maxlen=LATELY)
        self._tpots: deque[float] = deque(maxlen=LATELY)
        self._counted: dict[int, _Counted] = {}  # by the job's id
        self._lock, self._over = Lock(), Event()
        self._sampler = Sampler(time.time, period, keep=1)
        self._looked = time.perf_counter()
        self._thread = Thread(target=self._run, name="mlxnb-vitals", daemon=True)
        self._deafen: Callable[[], None] = lambda: None
        self.failed: Exception | None = None

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

    def follow(self, engine: Engine) -> None:
        """Look at this engine from now on, as one that was closed has another in its place; what was seen stays."""
        if engine is not self._engine and not self._over.is_set():
            self._deafen()
            self._engine = engine
            self._deafen = engine.hear(self._hear)

    def close(self) -> None:
        """Look no more; what was seen stays. Closing twice is harmless."""
        if self._over.is_set():
            return
        self._over.set()
        self._deafen()
        self._thread.join()
        self._sampler.__exit__(None, None, None)

    def _hear(self, job: Job) -> None:
        with self._lock:  # of a job that runs already, what it has generated so far is no news
            self._counted.setdefault(id(job), _Counted(job, len(job.watch.token_times)))

    def _run(self) -> None:
        while not self._over.wait(self._period):
            try:
                self._kept.append(self._look())
            except Exception as err:  # noqa: BLE001 - the edge of a thread: whoever shows the moments tells it
                self.failed = err
                return

    def _look(self) -> Moment:
        status, cache = self._engine.status(), self._engine.cache
        tokens, running, slowest = self._tokens()
        now = time.perf_counter()
        past, self._looked = now - self._looked, now
        told = self._sampler.samples[-1] if self._sampler.samples else None
        if told is not None and time.time() - told.at > STALE + self._period:
            told = None
        answers, prefixes = (
            cache.recent_hits(kind, LOOKUPS) if cache is not None else (0, 0) for kind in ("result", "prefix")
        )
        return Moment(
            at=time.time(),
            token_rate=tokens / past,
            running=running,
            queued=status.queued,
            ttft_50=percentile(self._ttfts, 50),
            ttft_95=percentile(self._ttfts, 95),
            ttft_n=len(self._ttfts),
            ttft_slowest=slowest,
            tpot_50=percentile(self._tpots, 50),
            tpot_95=percentile(self._tpots, 95),
            tpot_n=len(self._tpots),
            models=sum(info.memory for info in status.loaded),
            process=told.rss if told is not None else None,
            free=status.memory_free,
            answers_hit=_share(*answers),
            answers_n=answers[1],
            prefixes_hit=_share(*prefixes),
            prefixes_n=prefixes[1],
            temperature=told.temperature if told is not None else None,
            pressure=told.pressure if told is not None else None,
        )

    def _tokens(self) -> tuple[int, int, float | None]:
        """Tokens since the last look, how many requests run, and the slowest first token of those that ended."""
        with self._lock:
            counted = list(self._counted.values())
        new, running, ttfts = 0, 0, []
        for each in counted:
            settled, there = each.job.settled, len(each.job.watch.token_times)
            new += max(there - each.tokens, 0)
            each.tokens = there
            running += not settled and each.job.state != "queued"
            if settled:
                ttfts.append(self._ended(each.job))
        return new, running, max((ttft for ttft in ttfts if ttft is not None), default=None)

    def _ended(self, job: Job) -> float | None:
        """The time to first token of an answer that was computed."""
        with self._lock:
            del self._counted[id(job)]
        answer = job.answer()
        if isinstance(answer, MlxnbError) or answer.cached:
            return None
        ttft, tpot = answer.timings.ttft, answer.timings.tpot
        if ttft is not None:
            self._ttfts.append(ttft)
        if tpot is not None:
            self._tpots.append(tpot)
        return ttft


def _share(hits: int, lookups: int) -> float | None:
    return hits / lookups if lookups else None
