"""The roofline: how near prefill and decode come to what this machine's memory and arithmetic allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...render.numbers import count, significant
from ...render.plot import CYCLE, GREY, Plot, literal, new_figure
from ...render.plot_labels import SMALL, Label, label_points, settle
from ...render.text import shortened
from ..report import Point, Report
from ..report.words import model_names
from .plots_context import caption, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = "os^Dv"  # of the models
NEAR = 16  # points of paper within which two marks share a label
COLOURS = {"prefill": CYCLE[1], "decode": CYCLE[0]}


def roofline(report: Report) -> Plot | None:
    """Operations a second over operations a byte, on logarithmic axes, under the measured roof.

    Williams, Waterman, Patterson: Roofline, CACM 52 (2009).
    """
    roof = report.roofline
    points = [point for point in roof.points if point.intensity > 0 and point.rate > 0] if roof is not None else []
    if roof is None or not points or min(roof.bandwidth, roof.product) <= 0:
        return None
    from matplotlib.ticker import FuncFormatter

    sides = f"{significant(roof.bandwidth / 1e9)} GB/s, {significant(roof.product / 1e9)} Gop/s in {roof.dtype}"
    hollow = "" if all(_alone(report, point) for point in points) else "hollow: requests together"
    said = caption(report, f"roof as measured: {sides}", "labels: tokens of context", hollow)
    title = "Roofline of prefill and decode"
    figure, (axis,) = new_figure(title, [""], "operations a byte", "operations a second (Gop/s)", said)
    figure.set_size_inches(6.8, 4.3)
    ridge = roof.product / roof.bandwidth
    low, high = min(p.intensity for p in points) / 3, max(ridge * 4, max(p.intensity for p in points) * 4)
    xs = np.geomspace(low, high, 200)
    roofs = np.minimum(xs * roof.bandwidth, roof.product) / 1e9
    axis.plot(xs, roofs, color=GREY, linewidth=1.6)
    for point in points:
        inner = COLOURS[point.phase] if _alone(report, point) else "none"
        mark = MARKS[(report.cases[point.case].model or 0) % len(MARKS)]
        axis.plot(point.intensity, point.rate / 1e9, mark, color=COLOURS[point.phase], markersize=5.5, mfc=inner)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(low, high)
    rates = [point.rate for point in points]
    axis.set_ylim(min(min(rates) / 4, low * roof.bandwidth * 1.5) / 1e9, max(roof.product, *rates) * 2.2 / 1e9)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(FuncFormatter(lambda value, _: significant(value)))
    _name_roof(axis, roof.bandwidth, roof.product, low, high)
    marks = [(point.intensity, point.rate / 1e9) for point in points]
    alone = [point for point in points if _alone(report, point)] or points
    labels = [_label(group) for group in _groups(report, axis, alone)]
    _name_models(report, axis, points)
    beside = [*zip(xs, roofs, strict=True), *marks]
    left_out = label_points(axis, labels, beside)
    label_points(axis, _phases(labels, left_out), beside)
    return Plot(figure, f"{title}: {said}")


def _groups(report: Report, axis: Axes, points: Sequence[Point]) -> list[list[Point]]:
    """Neighbours of one phase and model, which share a label with the contexts from first to last."""
    settle(axis)
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda point: (point.phase, _model(report, point), point.intensity)):
        if groups and _same(report, groups[-1][-1], point) and _apart(axis, groups[-1][-1], point) < NEAR:
            groups[-1].append(point)
        else:
            groups.append([point])
    return groups


def _alone(report: Report, point: Point) -> bool:
    """Whether it is of single requests; several together share the reading of the weights."""
    return report.cases[point.case].concurrency == 1


def _label(group: Sequence[Point]) -> Label:
    last = group[-1]  # to the right of which there is room
    contexts = [point.context for point in group]
    low, high = min(contexts), max(contexts)
    text = f"{last.phase} {count(low)}" + (f" – {count(high)}" if high > low else "")
    return last.intensity, last.rate / 1e9, text, COLOURS[last.phase]


def _phases(labels: Sequence[Label], left_out: Sequence[str]) -> list[Label]:
    """The bare name of a phase of which no label found room, so that its colour is explained."""
    bare = {
        colour: (x, y, phase, colour) for x, y, _, colour in labels for phase in COLOURS if COLOURS[phase] == colour
    }
    named = {colour for _, _, text, colour in labels if text not in left_out}
    return [label for colour, label in bare.items() if colour not in named]


def _name_models(report: Report, axis: Axes, points: Sequence[Point]) -> None:
    """A legend of the marks, where the points are of several models."""
    shown = sorted({model for point in points if (model := report.cases[point.case].model) is not None})
    if len(shown) < 2:
        return
    for model in shown:
        name = literal(shortened(model_names(report)[model], 30))
        axis.plot([], [], MARKS[model % len(MARKS)], color=GREY, markersize=5.5, label=name)
    legend(axis, "lower right")


def _model(report: Report, point: Point) -> str:
    model = report.cases[point.case].model
    return model_names(report)[model] if model is not None else ""


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
    settle(axis)
    ends = axis.transData.transform([(x, x * bandwidth / 1e9) for x in (low, 2 * low)])
    slope = float(np.degrees(np.arctan2(*(ends[1] - ends[0])[::-1])))
    axis.annotate("memory bandwidth", (low * 1.3, low * 1.3 * bandwidth / 1e9), xytext=(0, 6),
                  textcoords="offset points", color=GREY, fontsize=SMALL, ha="left", va="bottom",
                  rotation=slope, rotation_mode="anchor")  # fmt: skip
