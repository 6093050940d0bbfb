"""The roofline: how near prefill and decode come to what this machine's memory and arithmetic allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..render.numbers import count, significant
from ..render.plot import CYCLE, GREY, Plot, new_figure
from ..render.plot_labels import SMALL, label_points, settle, shortened
from .plots_context import caption
from .report import Point, Report
from .words import model_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEAR = 16  # points of paper within which two marks share a label
COLOURS = {"prefill": CYCLE[1], "decode": CYCLE[0]}


def roofline(report: Report) -> Plot | None:
    """Operations a second over operations a byte, on logarithmic axes, under the measured roof.

    Williams, Waterman, Patterson: Roofline, CACM 52 (2009).
    """
    roof = report.roofline
    points = [point for point in roof.points if point.intensity > 0 and point.rate > 0] if roof is not None else []
    if roof is None or not points:
        return None
    from matplotlib.ticker import FuncFormatter

    sides = f"{significant(roof.bandwidth / 1e9)} GB/s, {significant(roof.product / 1e9)} Gop/s in {roof.dtype}"
    said = caption(report, f"roof as measured: {sides}", "labels: tokens of context")
    title = "Roofline of prefill and decode"
    figure, (axis,) = new_figure(title, [""], "operations a byte", "operations a second (Gop/s)", said)
    figure.set_size_inches(6.8, 4.3)
    ridge = roof.product / roof.bandwidth
    low, high = min(p.intensity for p in points) / 3, max(ridge * 4, max(p.intensity for p in points) * 4)
    xs = np.geomspace(low, high, 200)
    roofs = np.minimum(xs * roof.bandwidth, roof.product) / 1e9
    axis.plot(xs, roofs, color=GREY, linewidth=1.6)
    for point in points:
        axis.plot(point.intensity, point.rate / 1e9, "o", color=COLOURS[point.phase], markersize=5.5, alpha=0.85, mew=0)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(low, high)
    rates = [point.rate for point in points]
    axis.set_ylim(min(min(rates) / 4, low * roof.bandwidth * 1.5) / 1e9, max(roof.product, *rates) * 2.2 / 1e9)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(FuncFormatter(lambda value, _: significant(value)))
    _name_roof(axis, roof.bandwidth, roof.product, low, high)
    marks = [(point.intensity, point.rate / 1e9) for point in points]
    label_points(axis, _labels(report, axis, points), [*zip(xs, roofs, strict=True), *marks])
    return Plot(figure, f"{title}: {said}")


def _labels(report: Report, axis: Axes, points: Sequence[Point]) -> list[tuple[float, float, str, str]]:
    """A label for each point; neighbours of one phase and model share theirs, with the contexts from first to last."""
    settle(axis)
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda point: (point.phase, _model(report, point), point.intensity)):
        if groups and _same(report, groups[-1][-1], point) and _apart(axis, groups[-1][-1], point) < NEAR:
            groups[-1].append(point)
        else:
            groups.append([point])
    return [_label(report, group) for group in groups]


def _label(report: Report, group: Sequence[Point]) -> tuple[float, float, str, str]:
    middle = group[len(group) // 2]
    contexts = [point.context for point in group]
    low, high = min(contexts), max(contexts)
    name = f"{shortened(_model(report, middle), 16)}, " if len(report.models) > 1 else ""
    text = f"{name}{middle.phase} {count(low)}" + (f" – {count(high)}" if high > low else "")
    return middle.intensity, middle.rate / 1e9, text, COLOURS[middle.phase]


def _model(report: Report, point: Point) -> str:
    model = report.cases[point.case].model
    return model_name(report, model) if model is not None else ""


def _same(report: Report, one: Point, other: Point) -> bool:
    return one.phase == other.phase and _model(report, one) == _model(report, other)


def _apart(axis: Axes, one: Point, other: Point) -> float:
    """Distance on paper, in points."""
    ends = axis.transData.transform([(point.intensity, point.rate / 1e9) for point in (one, other)])
    return float(np.hypot(*(ends[0] - ends[1]))) * 72 / axis.figure.dpi


def _name_roof(axis: Axes, bandwidth: float, product: float, low: float, high: float) -> None:
    """Its two sides, above the line."""
    axis.annotate("matrix rate", (high, product / 1e9), xytext=(-4, 4), textcoords="offset points", color=GREY,
                  fontsize=SMALL, ha="right", va="bottom")  # fmt: skip
    axis.annotate("memory bandwidth", (low * 1.3, low * 1.3 * bandwidth / 1e9), xytext=(0, 6),
                  textcoords="offset points", color=GREY, fontsize=SMALL, ha="left", va="bottom",
                  rotation=45, rotation_mode="anchor", transform_rotates_text=True)  # fmt: skip
