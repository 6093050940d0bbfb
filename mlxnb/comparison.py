"""Compares two ways of doing one thing in one process, alternating, so that a machine whose speed drifts gives a true
ratio, and says "no difference" where the spread is wider than it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Arm = Callable[[], float]
Pairs = list[tuple[float, float]]


def alternate(ours: Arm, theirs: Arm, pairs: int = 12, warm_up: int = 2) -> Pairs:
    """Rates of both arms in the order A B, B A, A B …; what the warm-up gives is dropped."""
    rates: Pairs = []
    for i in range(-warm_up, pairs):
        if i % 2 == 0:
            a = ours()
            b = theirs()
        else:
            b = theirs()
            a = ours()
        if i >= 0:
            rates.append((a, b))
    return rates


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ours over theirs, pair by pair: the median, and a 95 % bootstrap interval of it."""

    median: float
    low: float
    high: float
    pairs: int

    @classmethod
    def of(cls, rates: Pairs) -> Ratio:
        """From rates, where more is better, of both arms."""
        ratios = np.array([ours / theirs for ours, theirs in rates])
        draws = np.random.default_rng(0).choice(ratios, (4000, len(ratios)))
        low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
        return cls(float(np.median(ratios)), float(low), float(high), len(ratios))

    @property
    def differs(self) -> bool:
        """Whether 1 lies outside the interval."""
        return not self.low <= 1 <= self.high

    def __str__(self) -> str:
        if not self.differs:
            return f"no difference ({self.low:.2f} – {self.high:.2f})"
        return f"{self.median:.2f}× ({self.low:.2f} – {self.high:.2f})"
