"""One benchmark's outcome: the rates of two arms that took turns, and the row that the table and the JSON show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlxnb.comparison import Arm, Pairs, Ratio, alternate

__all__ = ["Arm", "Comparison", "alternate"]


@dataclass(frozen=True)
class Comparison:
    """Two arms' rates in `unit`, more being better, and the ratio that was aimed at."""

    name: str
    ours: str
    theirs: str
    unit: str
    rates: Pairs
    goal: float | None = None

    def row(self) -> dict[str, object]:
        """One line of the table; also what the JSON holds."""
        ours, theirs = (float(np.median([pair[i] for pair in self.rates])) for i in (0, 1))
        ratio = Ratio.of(self.rates)
        return {
            "benchmark": self.name,
            "ours": f"{self.ours} {ours:.4g} {self.unit}",
            "theirs": f"{self.theirs} {theirs:.4g} {self.unit}",
            "ratio": round(ratio.median, 3),
            "interval": [round(ratio.low, 3), round(ratio.high, 3)],
            "pairs": ratio.pairs,
            "goal": self.goal,
            "rates": self.rates,
        }
