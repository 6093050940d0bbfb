"""The figures of a case out of its runs: medians with their spread, percentiles that enough values stand behind."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import TypeVar

import numpy as np

from ...result import Timings
from ..report import Ratio, Report, Run

T = TypeVar("T")

# Percentiles from so far out, and how many values one of them needs: of fewer it would be the largest, by another name.
FAR_OUT = ((99.0, 100), (95.0, 20))

# Student's t: what 95 % of draws lie within, for 1 to 30 degrees of freedom.
T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


def percentile(values: Iterable[float], q: float) -> float | None:
    """The q-th percentile, 0 to 100, interpolated linearly. None of no values, and where METRICS wants more of them:
    from the 95th on 20, from the 99th on 100, and as many at the other end.
    """
    held = list(values)
    least = next((least for border, least in FAR_OUT if max(q, 100 - q) >= border and 0 < q < 100), 1)
    return float(np.percentile(held, q)) if len(held) >= least else None


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over `n` values: its median, the quartiles `low` and `high` around it, and its far end where n is large
    enough for one.
    """

    median: float
    low: float
    high: float
    n: int
    p95: float | None = None
    p99: float | None = None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Of the values that are there; None where none is."""
        held = [value for value in values if value is not None]
        if not held:
            return None
        low, middle, high = (float(value) for value in np.percentile(held, [25, 50, 75]))
        return cls(middle, low, high, len(held), percentile(held, 95), percentile(held, 99))

    @property
    def relative(self) -> float:
        """The distance between the quartiles, as a share of the median; 0 where that is 0."""
        return (self.high - self.low) / abs(self.median) if self.median else 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one case, by METRICS; seconds, bytes, tokens a second. None where nothing defines one.

    Each Spread is over the requests that were answered, `itl` over all their gaps, `throughput` over the rounds. `ttft`
    begins where the prompt begins to be computed; `queue` is the wait before that, with our own work in it. `visible`
    is the time to the first token that is no thinking, without that wait. `goodput`: requests a second that met every
    limit. `peak_memory` and `peak_rss` are the largest of all runs. `energy`: joules a generated token. `acceptance` is
    of all guesses of a draft, `by_position` of the first of each pass, the second, and so on. `drift`: the decode rate
    of the last third of the rounds over that of the first.
    """

    n: int
    failed: int
    rounds: int
    ttft: Spread | None
    queue: Spread | None
    visible: Spread | None
    tpot: Spread | None
    itl: Spread | None
    prefill_rate: Spread | None
    decode_rate: Spread | None
    total: Spread | None
    throughput: Spread | None
    prompt_tokens: Spread | None
    reused_tokens: Spread | None
    generation_tokens: Spread | None
    goodput: float | None
    peak_memory: int | None
    peak_rss: int | None
    energy: float | None
    acceptance: float | None
    by_position: tuple[float, ...]
    drift: Ratio | None

    @classmethod
    def of(cls, report: Report, case: int) -> Summary:
        """The figures of the case with that index in `report.cases`."""
        runs = report.of(case)
        times = [run.timings for run in runs if run.timings is not None]
        rounds = by_round(runs)
        return cls(
            n=len(runs),
            failed=sum(run.case == case and run.timings is None for run in report.runs),
            rounds=len(rounds),
            ttft=Spread.of(map(ttft, times)),
            queue=Spread.of(t.queue_time for t in times),
            visible=Spread.of(None if t.first_visible is None else t.first_visible - t.start for t in times),
            tpot=Spread.of(t.tpot for t in times),
            itl=Spread.of(gap for t in times for gap in t.itl),
            prefill_rate=Spread.of(t.prefill_rate for t in times),
            decode_rate=Spread.of(t.decode_rate for t in times),
            total=Spread.of(t.total for t in times),
            throughput=Spread.of(map(throughput, rounds)),
            prompt_tokens=Spread.of(t.prompt_tokens or None for t in times),  # no prompt has 0: nobody counted it
            reused_tokens=Spread.of(t.reused_tokens if t.prompt_tokens else None for t in times),
            generation_tokens=Spread.of(run.generation_tokens for run in runs),
            goodput=goodput(rounds, report.limits),
            peak_memory=_largest(run.peak_memory for run in runs),
            peak_rss=_largest(run.peak_rss for run in runs),
            # A counter that did not move at all, because its steps are longer than the runs, measured nothing.
            energy=_over([run for run in runs if run.energy is not None], "energy", "generation_tokens") or None,
            acceptance=_over([run for run in runs if run.proposed is not None], "accepted", "proposed"),
            by_position=by_position(runs),
            drift=drift(rounds),
        )


def ttft(timings: Timings) -> float | None:
    """Time to first token in seconds from the beginning of prefill: the queue is shown apart when profiling."""
    return timings.token_times[0] - timings.start if timings.token_times else None


def by_round(runs: Iterable[Run]) -> list[list[Run]]:
    """Runs that were answered, those that ran together in one list, in the order of their rounds."""
    rounds: dict[int, list[Run]] = {}
    for run in runs:
        if run.timings is not None:
            rounds.setdefault(run.round, []).append(run)
    return [rounds[number] for number in sorted(rounds)]


def wall(together: Sequence[Run]) -> float:
    """Seconds in which a request of a round was waited for, loading a model left out. Between two turns of a
    conversation nobody is asked anything: there the next prompt is made.
    """
    times = sorted((run.timings for run in together if run.timings is not None), key=lambda t: t.accepted)
    took, reached = 0.0, -math.inf
    for t in times:
        end = t.token_times[-1] if t.token_times else t.start
        took += max(0.0, end - max(t.accepted, reached))
        reached = max(reached, end)
    return took - max((t.load_time for t in times), default=0.0)


def throughput(together: Sequence[Run]) -> float | None:
    """Generated tokens of a round over the time that it took; None where it took none."""
    took = wall(together)
    return sum(run.generation_tokens for run in together) / took if took > 0 else None


def goodput(rounds: Sequence[Sequence[Run]], limits: Mapping[str, float]) -> float | None:
    """Requests a second that met every limit ("ttft", "tpot", "total", in seconds); None without limits.

    A limit is about what a person waits for, so here TTFT counts from when the request was accepted.
    """
    took = sum(map(wall, rounds))
    if not limits or took <= 0:
        return None
    return sum(_meets(run.timings, limits) for together in rounds for run in together) / took


def _meets(timings: Timings | None, limits: Mapping[str, float]) -> bool:
    """A figure that is undefined, such as TPOT of a single token, breaks no limit; an answer without a token does."""
    if timings is None or not timings.token_times:
        return False
    waited = {
        "ttft": (timings.ttft or 0.0) - timings.load_time,
        "tpot": timings.tpot,
        "total": (timings.total or 0.0) - timings.load_time,
    }
    return all((value := waited[name]) is None or value <= limit for name, limit in limits.items())


def drift(rounds: Sequence[Sequence[Run]]) -> Ratio | None:
    """The decode rate of the last third of the rounds over that of the first, with a 95 % interval; None for fewer than
    four rounds, of which no interval would say anything.

    All rounds ask the same, so that a context that grows slows each of them alike. The interval comes from how far
    rounds lie from their own straight line, in logarithms: se = s·√(2/k) for thirds of k rounds, Student's t.
    """
    rates = [rate for together in rounds if (rate := _decode_rate(together)) is not None]
    if len(rates) < 4:
        return None
    logs, third = [math.log(rate) for rate in rates], max(1, round(len(rates) / 3))
    change = mean(logs[-third:]) - mean(logs[:third])
    left = np.asarray(logs) - np.polyval(np.polyfit(range(len(logs)), logs, 1), range(len(logs)))
    freedom = len(logs) - 2
    se = math.sqrt(float(left @ left) / freedom * 2 / third)
    reach = se * (T_95[freedom - 1] if freedom <= len(T_95) else 1.96)
    return Ratio("decode_rate", math.exp(change), math.exp(change - reach), math.exp(change + reach), third)


def _decode_rate(together: Sequence[Run]) -> float | None:
    rates = _known(run.timings.decode_rate for run in together if run.timings is not None)
    return median(rates) if rates else None


def by_position(runs: Iterable[Run]) -> tuple[float, ...]:
    """Accepted over proposed guesses at each position of a pass, up to the last that was proposed."""
    found: list[list[int]] = []
    for run in runs:
        for place, (proposed, accepted) in enumerate(run.positions):
            if place == len(found):
                found.append([0, 0])
            found[place] = [found[place][0] + proposed, found[place][1] + accepted]
    return tuple(accepted / proposed for proposed, accepted in found if proposed)


def _known(values: Iterable[T | None]) -> list[T]:
    return [value for value in values if value is not None]


def _largest(values: Iterable[int | None]) -> int | None:
    return max(_known(values), default=None)


def _over(runs: Sequence[Run], above: str, below: str) -> float | None:
    """The sum of one field of runs over that of another."""
    whole = sum(getattr(run, below) or 0 for run in runs)
    return sum(getattr(run, above) or 0 for run in runs) / whole if whole else None
