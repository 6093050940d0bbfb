"""Generation without a pause: does memory grow with every request, and does the machine keep its speed?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...errors import MlxnbError, OptionError
from ..judge.trend import lost, slope, slopes_drawn
from ..machine.memory import Held, Reading, reading_for
from ..report import INTERRUPTED, Stress
from ..report.beside import HOLDS, LEAKS, PAGE, TOO_FEW, UNCLEAR, UNSEEN
from .progress import Progress

if TYPE_CHECKING:
    from ...request import Request
    from ...result import Result
    from ...runtime import Engine

Clock = Callable[[], float]

LEAST = 20  # requests, of which the second half tells: the first fills caches, arenas and compiled kernels
SURE = 0.95
LONGEST = 600.0  # seconds until it ends where memory has not stopped growing
EVERY = 10  # requests between two looks at whether it has

GIVE_SECONDS = "Give it a time: --stress 60"


@dataclass(slots=True)
class Course:
    """What was seen so far: bytes after each request by the time of the clock, and its decode rate."""

    memory: list[tuple[float, int]] = field(default_factory=list)
    rates: list[float | None] = field(default_factory=list)
    held: Held = field(default_factory=Held)

    def growth(self) -> Growth:
        """What each request left behind."""
        return grown([size for _, size in self.memory])


@dataclass(frozen=True, slots=True)
class Growth:
    """Bytes a request over the second half, with a 95 % interval, and what to make of them."""

    each: float = 0.0
    low: float = 0.0
    high: float = 0.0
    verdict: str = TOO_FEW
    confidence: float = 0.0


def stress(
    engine: Engine,
    request: Request,
    seconds: float | None,
    clock: Clock,
    case: int,
    *,
    reading: Reading | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Stress:
    """Ask the same without a pause for `seconds`, or with None until memory has stopped growing, for LONGEST at most;
    one request before that loads the model. An interrupt, or a request that fails, ends it and keeps what there is:
    `ended` says so.

    Of a server's model nobody here sees the memory: then there is the decline only, and `verdict` says so.

    `clock` gives seconds since the profile began; `reading` the memory, on the engine's thread, None for that of the
    device.

    Raises:
        OptionError: it is to end when memory has settled, which nobody here would see.
        MlxnbError: not even the first request was answered.
    """
    first = engine.submit(request).result()
    read = reading or reading_for(first.provenance.backend, first.provenance.device)
    if read is None and seconds is None:
        raise OptionError(f"The memory of {request.model} is a server's, which nobody here sees settle.", GIVE_SECONDS)
    course, began = Course(), clock()
    ended = _go_on(engine, request, seconds, clock, course, read, progress)
    found = Growth(verdict=UNSEEN) if read is None else course.growth()
    decline, least, most = lost([rate for rate in course.rates if rate is not None]) or (None, 0.0, 0.0)
    return Stress(
        case=case,
        seconds=clock() - began,
        requests=len(course.rates),
        growth=found.each,
        low=found.low,
        high=found.high,
        fragmentation=course.held.free_share,
        decline=decline,
        verdict=found.verdict,
        confidence=found.confidence,
        memory=tuple(course.memory),
        ended=ended,
        decline_low=least,
        decline_high=most,
    )


def _go_on(
    engine: Engine,
    request: Request,
    seconds: float | None,
    clock: Clock,
    course: Course,
    read: Reading | None,
    progress: Callable[[Progress], None] | None,
) -> str:
    """Fill a course; why it ended."""
    began, most = clock(), LONGEST if seconds is None else seconds
    try:
        while (now := clock() - began) < most:
            _once(engine.submit(request).result(), engine, clock, course, read)
            _tell(progress, len(course.rates), now, most)
            if seconds is None and _stopped(course):
                return "memory stopped growing"
    except KeyboardInterrupt:
        return INTERRUPTED
    except MlxnbError as err:
        return err.message
    return "time"


def _once(result: Result, engine: Engine, clock: Clock, course: Course, read: Reading | None) -> None:
    """Memory is read behind what the engine does once an answer is out."""
    if read is not None:
        held = engine.call(read)
        course.held = held
        course.memory.append((clock(), held.used))
    course.rates.append(result.timings.decode_rate)


def _stopped(course: Course) -> bool:
    count = len(course.memory)
    if count < 2 * LEAST or count % EVERY:
        return False
    found = course.growth()
    return found.verdict == HOLDS and found.confidence >= SURE


def grown(sizes: Sequence[int]) -> Growth:
    """What each request left of bytes that were read after every one of them: the slope of their second half.

    A leak is more than a page a request in 95 % of what the slope could as well have been, both of the bytes as they
    were and of those that never came back later on, which garbage that waits for its collection does. `confidence` is
    the share for the verdict, which a bootstrap of so many draws never makes certain.
    """
    late = sizes[len(sizes) // 2 :]
    if len(sizes) < LEAST:
        return Growth()
    drawn = slopes_drawn(late)
    low, high = (float(value) for value in np.percentile(drawn, [2.5, 97.5]))
    leaking = min(float(np.mean(slopes > PAGE)) for slopes in (drawn, slopes_drawn(_kept(late))))
    verdict = LEAKS if leaking >= SURE else HOLDS if leaking <= 1 - SURE else UNCLEAR
    each, most = slope(late), 1 - 1 / len(drawn)
    return Growth(each, min(low, each), max(high, each), verdict, min(max(leaking, 1 - leaking), most))


def _kept(sizes: Sequence[int]) -> list[int]:
    """What was in use at each place and at any later one, but for the last fifth, after which too little comes."""
    lowest = np.minimum.accumulate(np.asarray(sizes)[::-1])[::-1]
    return [int(size) for size in lowest[: max(2, len(sizes) * 4 // 5)]]


def _tell(progress: Callable[[Progress], None] | None, done: int, now: float, most: float) -> None:
    if progress is not None:
        progress(Progress("stress", done, max(done, round(done * most / max(now, 1e-9))), max(0.0, most - now)))
