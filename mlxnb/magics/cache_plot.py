"""The plot of `%mlxnb cache`: hit rate over the last lookups."""

from __future__ import annotations

from collections.abc import Mapping

from ..render.plot import CYCLE, Plot, label_line, new_figure

WINDOW = 20
NAMES = {"result": "answers", "prefix": "prefixes"}


def hit_rate_plot(rates: Mapping[str, list[tuple[float, float]]]) -> Plot:
    """(time in seconds, share) of each cache's lookups, against minutes since the first."""
    began = min(points[0][0] for points in rates.values() if points)
    caption = f"share of the last {WINDOW} lookups that were hits"
    figure, (axis,) = new_figure("Hit rate over time", [""], "time since the first lookup (s)", "hits (%)", caption)
    figure.set_size_inches(5.0, 2.4)
    for (kind, points), colour in zip(rates.items(), CYCLE, strict=False):
        if not points:
            continue
        times, share = [at - began for at, _ in points], [100 * rate for _, rate in points]
        axis.step(times, share, where="post", color=colour, marker="o", markersize=3, linewidth=1.5)
        label_line(axis, times[-1], share[-1], NAMES[kind], colour, above=share[-1] < 80)
    axis.set_ylim(-4, 104)
    return Plot(figure, f"Hit rate over time: {caption}")
