"""Plots of how much requests differ: each first token, and the gaps between tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...render.numbers import duration
from ...render.plot import CYCLE, GREY, SIZE, Plot, new_figure
from ...render.plot_labels import SMALL, name_rows
from ...result import Timings
from ..judge.figures import ttft
from ..report import Report
from ..report.words import case_names, counted
from .plots_context import caption

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = 12
WIDE = 20  # times the smallest value from which on an axis is logarithmic
BINS = 48


def first_token(report: Report) -> Plot | None:
    """A dot for each request's time to first token, a bar at the median, a row a case."""
    rows = _rows(report, lambda timings: [ttft(timings)])
    if not rows:
        return None
    title, said = (
        "Time to first token by case",
        _caption(report, rows, "a dot a request, a bar at the median", "request"),
    )
    figure, (axis,) = new_figure(title, [""], "time from the start of prefill", "", said)
    _size(figure, len(rows))
    _times(axis, [value for _, values in rows for value in values], "time from the start of prefill")
    for row, (_, values) in enumerate(rows):
        scatter = np.random.default_rng(row).uniform(-0.16, 0.16, len(values))
        axis.plot(np.asarray(values) * 1e3, row + scatter, "o", color=CYCLE[0], markersize=4, alpha=0.65, mew=0)
    _medians(axis, rows)
    return Plot(figure, f"{title}: {said}")


def gaps(report: Report) -> Plot | None:
    """The distribution of gaps between tokens, a row a case, on one logarithmic axis."""
    rows = [(name, values) for name, values in _rows(report, lambda timings: timings.itl) if len(values) > 4]
    pooled = np.asarray([value for _, values in rows for value in values if value > 0])
    if not len(pooled):
        return None
    title, said = "Gaps between tokens by case", _caption(report, rows, "share of the gaps, a bar at the median", "gap")
    figure, (axis,) = new_figure(title, [""], "", "", said)
    _size(figure, len(rows))
    # Tokens that came in one piece have no gap that a logarithm could show: they stand at the smallest one.
    low, high = float(pooled.min()), float(pooled.max())
    edges = np.geomspace(low * 0.98, high * 1.02, BINS + 1)
    _times(axis, [low, high], "gap between tokens", log=True)
    for row, (_, values) in enumerate(rows):
        heights, _ = np.histogram(np.clip(values, low, high), edges)
        top = row + 0.3 - 0.78 * heights / heights.max()
        axis.fill_between(edges * 1e3, [*top, top[-1]], row + 0.3, step="post", color=CYCLE[0], alpha=0.6, linewidth=0)
    _medians(axis, rows, half=0.3)
    return Plot(figure, f"{title}: {said}")


def _rows(report: Report, of: Callable[[Timings], Iterable[float | None]]) -> list[tuple[str, list[float]]]:
    """What `of` gives of each case's answered requests, cases without any left out."""
    found = []
    for i, name in enumerate(case_names(report)):
        timed = [run.timings for run in report.of(i) if run.timings is not None]
        values = [value for timings in timed for value in of(timings) if value is not None]
        found += [(name, values)] if values else []
    return found


def _caption(report: Report, rows: list[tuple[str, list[float]]], marks: str, noun: str) -> str:
    cut = f"the first {ROWS} of {len(rows)} cases" if len(rows) > ROWS else ""
    said = caption(report, marks, counted([len(values) for _, values in rows], noun), cut)
    del rows[ROWS:]
    return said


def _size(figure: Figure, rows: int) -> None:
    figure.set_size_inches(SIZE[0], max(SIZE[1] * 0.6, 1.3 + 0.31 * rows))


def _times(axis: Axes, seconds: Sequence[float], said: str, log: bool = False) -> None:
    """An axis in milliseconds, logarithmic where the values lie far apart, with ticks in the unit that fits each."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_xlabel(said)
    low, high = min(seconds) * 1e3, max(seconds) * 1e3
    if log or (low > 0 and high > WIDE * low):
        axis.set_xscale("log")
        ticks = _nice(low, high)
        axis.set_xticks(ticks)
        axis.set_xlim(min(low * 0.85, ticks[0]), max(high * 1.15, ticks[-1]))
        axis.xaxis.set_minor_formatter(NullFormatter())
    else:
        axis.set_xlim(0, high * 1.08 or 1)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value / 1e3)))


def _nice(low: float, high: float) -> list[float]:
    """Ticks at round numbers of each power of ten that a range holds, the fewer the wider it is."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    wide = high / low
    fine = (1, 1.5, 2, 3, 4, 5, 6, 8)
    steps: tuple[float, ...] = fine if wide < 6 else (1, 2, 5) if wide < 100 else (1, 3) if wide < 3000 else (1,)
    held = [step * 10.0**power for power in powers for step in steps if low * 0.8 <= step * 10.0**power <= high * 1.25]
    return held or [low, high]


def _medians(axis: Axes, rows: Iterable[tuple[str, list[float]]], half: float = 0.28) -> None:
    """A bar at each median, its value at the right edge, and the rows' names."""
    rows = list(rows)
    name_rows(axis, [name for name, _ in rows])
    for row, (_, values) in enumerate(rows):
        middle = float(np.median(values))
        axis.plot([middle * 1e3] * 2, [row - half, row + half], color=CYCLE[1], linewidth=2)
        axis.annotate(duration(middle), (1, row), xytext=(4, 0), xycoords=("axes fraction", "data"), color=GREY,
                      textcoords="offset points", va="center", fontsize=SMALL, annotation_clip=False)  # fmt: skip
