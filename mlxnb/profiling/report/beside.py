"""What a profile measured beside its runs: the time inside a token, the roofline, and a stress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

INTERRUPTED = "interrupted"  # what ended a stress that a person stopped

# The verdicts of a stress, and the bytes a request under which growth is not told from the allocator's own unrest.
TOO_FEW, LEAKS, HOLDS, UNCLEAR = "too few requests to tell", "leak", "no leak", "unclear"
UNSEEN = "not seen: a server's"
PAGE = 4096

Phase = Literal["prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Share:
    """Seconds of one decode step that a part took, one of inside_parts.PARTS; `layer` is None outside the layers."""

    part: str
    seconds: float
    layer: int | None = None


@dataclass(frozen=True, slots=True)
class Inside:
    """Time inside a token: `shares` were timed with a wait after each part, over `steps` decode steps at `context`
    tokens; they add up to `synchronised`. `free` is a step without those waits. Seconds, averages over the middle half
    of the steps.
    """

    model: int
    context: int
    steps: int
    shares: tuple[Share, ...]
    synchronised: float
    free: float


@dataclass(frozen=True, slots=True)
class Point:
    """One case on the roofline: operations a byte, operations a second, and the shares of what the machine can do."""

    case: int
    phase: Phase
    context: int
    intensity: float
    rate: float
    mbu: float | None
    mfu: float | None


@dataclass(frozen=True, slots=True)
class Predicted:
    """Decode rates, tokens a second, that the measured bandwidth allows at a context, beside what was measured."""

    model: int
    context: int
    predicted: float
    measured: float | None


@dataclass(frozen=True, slots=True)
class Roofline:
    """Where prefill and decode stand between the bandwidth and the matrix rate of this machine."""

    bandwidth: float
    product: float
    dtype: str
    points: tuple[Point, ...]
    predicted: tuple[Predicted, ...]


@dataclass(frozen=True, slots=True)
class Stress:
    """Generation without a pause: bytes that each request left behind, with a 95 % interval, free blocks held by the
    allocator (as a share of what it holds), the rate's change from the first to the last third; `verdict` says leak or
    no leak, with its confidence. `decline` is the share of the rate that was lost, below 0 where it rose, with a 95 %
    interval; None of too few requests with a rate. `ended`: "time", "memory stopped growing", "interrupted", or the
    error of the request that failed.
    """

    case: int
    seconds: float
    requests: int
    growth: float
    low: float
    high: float
    fragmentation: float | None
    decline: float | None
    verdict: str
    confidence: float
    memory: tuple[tuple[float, int], ...] = ()
    ended: str = "time"
    decline_low: float = 0.0
    decline_high: float = 0.0
