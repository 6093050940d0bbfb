"""Student's t, and how sure each of many comparisons must be so that noise alone seldom makes one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

LEVEL = 0.05


def tail(t: float, freedom: int) -> float:
    """The probability that Student's t lies further from 0 than `t`, on either side.

    For whole degrees of freedom the series is finite: Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    if not math.isfinite(t):
        return 0.0
    angle = math.atan(abs(t) / math.sqrt(freedom))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = freedom % 2
    term, total = (math.cos(angle) if freedom > 1 else 0.0, 0.0) if odd else (1.0, 0.0)
    for i in range((freedom - odd) // 2):
        total += term
        k = 2 * i + 1 + odd
        term *= square * k / (k + 1)
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return max(0.0, 1 - inside)


def reach(level: float, freedom: int) -> float:
    """The t beyond which lies no more than `level`, on both sides together."""
    low, high = 0.0, 1.0
    while tail(high, freedom) > level:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle, freedom) > level else (low, middle)
    return high


def shared_level(probabilities: Sequence[float]) -> float:
    """The level at which each interval of a family is to be taken, so that of those that leave out 1 no more than one
    in twenty does so by chance; if nothing differs, in 95 % of families none does.

    Benjamini and Hochberg 1995; the intervals at that level are those of Benjamini and Yekutieli 2005.
    """
    ordered = sorted(probabilities)
    found = [k for k, p in enumerate(ordered, 1) if p <= LEVEL * k / len(ordered)]
    return LEVEL * max([1, *found]) / max(1, len(ordered))
