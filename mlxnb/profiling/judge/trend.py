"""Trends that a few outliers do not bend: the slope of a series, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST = 200  # values of a series that a slope is made from; of more, every k-th
DRAWS = 1000


def slope(values: Sequence[float], at: Sequence[float] | None = None) -> float:
    """The median of the slopes between any two values, `at` places 0, 1, 2 … where no others are given; 0 of fewer than
    two. Theil (1950) and Sen (JASA 63, 1968): up to 29 % of the values may be wrong.
    """
    x = np.arange(len(values), dtype=float) if at is None else np.asarray(at, float)
    return _theil_sen(x, np.asarray(values, float)[None, :])[0] if len(values) > 1 else 0.0


def slopes_drawn(values: Sequence[float], draws: int = DRAWS) -> np.ndarray:
    """What `slope` could as well have been: a bootstrap of the steps between neighbours, in blocks, since a step up is
    often followed by one down. One step that is larger than all others is absent from a third of the draws, so that a
    cache that grew once is not taken for a trend. Kunsch (Annals of Statistics 17, 1989).
    """
    steps = np.diff(np.asarray(values, float))
    if len(steps) < 2:
        return np.zeros(0)
    places = _blocks(len(steps), draws)
    paths = np.concatenate([np.zeros((draws, 1)), np.cumsum(steps[places], axis=1)], axis=1)
    keep = np.unique(np.linspace(0, len(steps), min(len(steps) + 1, MOST // 4)).round().astype(int))
    return np.array(_theil_sen(keep.astype(float), paths[:, keep]))


def lost(values: Sequence[float], draws: int = DRAWS) -> tuple[float, float, float] | None:
    """The share by which the median of the last third lies below that of the first, with a 95 % interval from drawing
    both in blocks; below 0 where it rose. None of fewer than three values, or where the first is 0.
    """
    third = len(values) // 3
    if not third:
        return None
    first, last = np.asarray(values[:third], float), np.asarray(values[-third:], float)
    if not np.median(first) > 0:
        return None
    before, after = (np.median(part[_blocks(third, draws, seed)], axis=1) for seed, part in enumerate((first, last)))
    shares = 1 - after[before > 0] / before[before > 0]
    low, high = (float(value) for value in np.percentile(shares, [2.5, 97.5]))
    return float(1 - np.median(last) / np.median(first)), low, high


def _blocks(count: int, draws: int, seed: int = 0) -> np.ndarray:
    """Places of `count` values for each draw [draws, count]: blocks of neighbours, which run on at the beginning."""
    size = max(1, round(count ** (1 / 3)))
    starts = np.random.default_rng(seed).integers(0, count, (draws, -(-count // size)))
    return (starts[:, :, None] + np.arange(size)).reshape(draws, -1)[:, :count] % count


def _theil_sen(x: np.ndarray, rows: np.ndarray) -> list[float]:
    """The slope of each row over `x`."""
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST)).round().astype(int))
    x, rows = x[keep], rows[:, keep]
    i, j = np.triu_indices(len(x), 1)
    apart = x[j] - x[i]
    pairs = apart != 0
    i, j, apart = i[pairs], j[pairs], apart[pairs]
    return [float(np.median((row[j] - row[i]) / apart)) for row in rows] if len(apart) else [0.0] * len(rows)
