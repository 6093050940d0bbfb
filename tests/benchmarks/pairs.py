"""Compares two ways of doing one thing in one process, so that a machine whose speed drifts gives a true ratio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Arm = Callable[[], float]


@dataclass(frozen=True)
class Comparison:
    """Two arms' rates in `unit`, the ratio ours / theirs pair by pair, and a 95 % bootstrap interval of its median."""

    name: str
    ours: str
    theirs: str
    unit: str
    rates: list[tuple[float, float]]
    goal: float | None = None

    @property
    def ratios(self) -> np.ndarray:
        return np.array([ours / theirs for ours, theirs in self.rates])

    def interval(self) -> tuple[float, float]:
        draws = np.random.default_rng(0).choice(self.ratios, (4000, len(self.ratios)))
        low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
        return float(low), float(high)

    def row(self) -> dict[str, object]:
        """One line of the table; also what the JSON holds."""
        ours, theirs = (float(np.median([pair[i] for pair in self.rates])) for i in (0, 1))
        low, high = self.interval()
        return {
            "benchmark": self.name,
            "ours": f"{self.ours} {ours:.4g} {self.unit}",
            "theirs": f"{self.theirs} {theirs:.4g} {self.unit}",
            "ratio": round(float(np.median(self.ratios)), 3),
            "interval": [round(low, 3), round(high, 3)],
            "pairs": len(self.rates),
            "goal": self.goal,
            "rates": self.rates,
        }


def alternate(ours: Arm, theirs: Arm, pairs: int = 12, warm_up: int = 2) -> list[tuple[float, float]]:
    """Rates of both arms in the order A B, B A, A B …; what the warm-up gives is dropped."""
    rates = []
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
