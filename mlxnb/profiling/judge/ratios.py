"""Ratios of what was measured several times, each with an interval that holds where several are looked at together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..report import Ratio
from .student import reach, shared_level, tail

DRAWS = 4000
MOST = math.log(1000)  # an interval that reaches further says no more


@dataclass(frozen=True, slots=True)
class Repeated:
    """A ratio before its interval: in logarithms its median, its mean with the standard error and the degrees of
    freedom, and medians that the bootstrap drew.
    """

    figure: str
    median: float
    mean: float
    error: float
    freedom: int
    draws: np.ndarray
    pairs: int

    @property
    def probability(self) -> float:
        """How likely so large a difference is where there is none, by Student's t."""
        return tail(self.mean / self.error, self.freedom) if self.error > 0 else float(self.mean == 0)

    def ratio(self, level: float) -> Ratio:
        """With the interval that all but `level` of them hold the truth in: the bootstrap's of the median (Efron 1979,
        percentiles), or Student's where that reaches further: of few values the bootstrap alone is too narrow, as it
        never leaves the values themselves.
        """
        low, high = (float(value) for value in np.percentile(self.draws, [50 * level, 100 - 50 * level]))
        wide = reach(level, self.freedom) * self.error
        low, high = max(min(low, self.mean - wide), -MOST), min(max(high, self.mean + wide), MOST)
        low, high = min(low, self.median), max(high, self.median)
        return Ratio(self.figure, math.exp(self.median), math.exp(low), math.exp(high), self.pairs)


def paired(figure: str, logs: Sequence[float]) -> Repeated:
    """Of ratios given as logarithms, two or more."""
    values = np.asarray(logs)
    draws = np.median(np.random.default_rng(0).choice(values, (DRAWS, len(values))), axis=1)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Repeated(
        figure, float(np.median(values)), float(np.mean(values)), error, len(values) - 1, draws, len(values)
    )


def unpaired(figure: str, ours: Sequence[float], theirs: Sequence[float]) -> Repeated:
    """Of two samples in logarithms that are no pairs, two or more values each. Each is drawn by itself; Welch's error,
    with the degrees of freedom of the smaller sample, which are never too many.
    """
    a, b = np.asarray(ours), np.asarray(theirs)
    generator = np.random.default_rng(0)
    drawn = [np.median(generator.choice(each, (DRAWS, len(each))), axis=1) for each in (a, b)]
    error = math.sqrt(float(np.var(a, ddof=1)) / len(a) + float(np.var(b, ddof=1)) / len(b))
    least = min(len(a), len(b))
    middle, mean = float(np.median(a) - np.median(b)), float(np.mean(a) - np.mean(b))
    return Repeated(figure, middle, mean, error, least - 1, drawn[0] - drawn[1], least)


def ratios_of(families: Sequence[Sequence[Repeated]]) -> list[tuple[Ratio, ...]]:
    """The ratios of all tests, at the one level that their number asks for."""
    level = shared_level([test.probability for tests in families for test in tests])
    return [tuple(test.ratio(level) for test in tests) for tests in families]
