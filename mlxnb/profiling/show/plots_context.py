"""Plots over the context's length and over requests together: rates, what was predicted, throughput."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...render.numbers import count, significant
from ...render.plot import CYCLE, GREY, Plot, literal, new_figure
from ...render.plot_labels import SMALL, label_ends, label_points
from ...render.text import shortened
from ..judge.figures import Spread, Summary
from ..report import Report
from ..report.words import counted, model_names, model_words, own_options

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIRECT = 3  # lines that are named where they end; more of them have a legend
Series = list[tuple[float, Spread]]


def rates(report: Report) -> Plot | None:
    """Prefill and decode rate by the prompt's length; None of fewer than two lengths."""
    panels: tuple[dict[str, Series], dict[str, Series]] = ({}, {})
    names = model_names(report)
    for i, case in enumerate(report.cases):
        summary = Summary.of(report, i)
        if case.model is None or case.concurrency > 1 or own_options(case) or summary.prompt_tokens is None:
            continue
        name = names[case.model]
        for panel, spread in zip(panels, (summary.prefill_rate, summary.decode_rate), strict=True):
            if spread is not None and summary.prompt_tokens.median > 0:
                panel.setdefault(name, []).append((summary.prompt_tokens.median, spread))
    lengths = {x for panel in panels for series in panel.values() for x, _ in series}
    if len(lengths) < 2:
        return None
    counts = [spread.n for panel in panels for series in panel.values() for _, spread in series]
    said = caption(report, f"median and quartiles of {counted(counts, 'run')}")
    title = "Generation rate by context length"
    figure, axes = new_figure(title, ["Prefill", "Decode"], "context (tokens)", "rate (tok/s)", said)
    for axis, panel in zip(axes, panels, strict=True):
        _log_lengths(axis, lengths)
        draw_series(axis, panel)
    return Plot(figure, f"{title}: {said}")


def predicted(report: Report) -> Plot | None:
    """Decode rates that the measured bandwidth allows, as lines, and those that were measured, as points."""
    placed = [each for each in report.roofline.predicted if each.context > 0] if report.roofline is not None else []
    if report.roofline is None or len({each.context for each in placed}) < 2:
        return None
    said = caption(
        report, f"predicted: all that a token needs, read at {significant(report.roofline.bandwidth / 1e9)} GB/s"
    )
    title = "Decode rate by context length, predicted and measured"
    figure, (axis,) = new_figure(title, [""], "context (tokens)", "decode rate (tok/s)", said)
    ends, lines, names = [], [], model_names(report)
    for model in dict.fromkeys(each.model for each in placed):
        found = sorted((each for each in placed if each.model == model), key=lambda each: each.context)
        colour = CYCLE[model % len(CYCLE)]
        contexts = [each.context for each in found]
        rates = [each.predicted for each in found]
        axis.plot(contexts, rates, color=colour, linestyle="--", linewidth=1.5)
        # The axis is logarithmic, and so are the steps on which a label must not stand.
        steps = np.geomspace(contexts[0], contexts[-1], 80)
        lines += list(zip(steps, np.interp(np.log(steps), np.log(contexts), rates), strict=True))
        measured = [(each.context, each.measured) for each in found if each.measured is not None]
        axis.plot(
            *zip(*measured, strict=True), color=colour, marker="o", markersize=5, linewidth=0
        ) if measured else None
        name = f"{shortened(names[model], 22)}: " if len(report.models) > 1 else ""
        ends.append((contexts[-1], found[-1].predicted, f"{name}predicted", colour))
        if measured:
            ends.append((*measured[-1], f"{name}measured", colour))
    _log_lengths(axis, {each.context for each in placed})
    axis.set_ylim(bottom=0)
    label_points(axis, ends, lines)
    return Plot(figure, f"{title}: {said}")


def together(report: Report) -> Plot | None:
    """Throughput of all requests, and the decode rate of each, by how many ran together."""
    panels: tuple[dict[str, Series], dict[str, Series]] = ({}, {})
    names = model_names(report)
    for i, case in enumerate(report.cases):
        summary = Summary.of(report, i)
        if case.model is None or own_options(case) or summary.throughput is None:
            continue
        name = case.scenario if len(report.models) == 1 else f"{names[case.model]}, {case.scenario}"
        for panel, spread in zip(panels, (summary.throughput, summary.decode_rate), strict=True):
            if spread is not None:
                panel.setdefault(name, []).append((case.concurrency, spread))
    several = {name for panel in panels for name, series in panel.items() if len({x for x, _ in series}) > 1}
    if not several:
        return None
    kept = [{name: series for name, series in panel.items() if name in several} for panel in panels]
    counts = [spread.n for series in kept[0].values() for _, spread in series]
    said = caption(report, f"median and quartiles of {counted(counts, 'round')}")
    title = "Throughput by requests together"
    figure, axes = new_figure(title, ["All together", "Each by itself"], "requests together", "rate (tok/s)", said)
    for axis, panel in zip(axes, kept, strict=True):
        axis.set_xticks(sorted({x for series in panel.values() for x, _ in series}))
        draw_series(axis, panel)
    return Plot(figure, f"{title}: {said}")


def caption(report: Report, *marks: str) -> str:
    """What a figure is of: the models, the machine, and what its marks mean."""
    models = "; ".join(model_words(model) for model in report.models[:2])
    more = f" and {len(report.models) - 2} more" if len(report.models) > 2 else ""
    partial = "partial" if report.partial else ""
    return " · ".join(filter(None, [models + more, report.environment.chip, *marks, partial]))


def draw_series(axis: Axes, panel: dict[str, Series]) -> None:
    """Lines of medians with bands of quartiles, from zero up, named at their ends or in a legend."""
    ends = []
    for (name, series), colour in zip(panel.items(), _colours(), strict=False):
        series = sorted(series, key=lambda point: point[0])
        xs = [x for x, _ in series]
        axis.plot(xs, [s.median for _, s in series], color=colour, marker="o", markersize=3.5, linewidth=1.6,
                  label=literal(shortened(name, 30)))  # fmt: skip
        axis.fill_between(xs, [s.low for _, s in series], [s.high for _, s in series], color=colour, alpha=0.3,
                          linewidth=0)  # fmt: skip
        ends.append((xs[-1], series[-1][1].median, shortened(name, 18), colour))
    axis.set_ylim(bottom=0, top=axis.get_ylim()[1] * 1.06)
    if len(panel) == 1:
        return
    if len(panel) <= DIRECT:
        label_ends(axis, ends)
    else:
        legend(axis)


def legend(axis: Axes, place: Literal["best", "lower right"] = "best") -> None:
    """A quiet legend among the lines."""
    made = axis.legend(loc=place, fontsize=SMALL - 1, frameon=False, labelcolor=GREY)
    made.set_in_layout(False)


def _colours() -> Any:
    from itertools import cycle

    return cycle(CYCLE)


def _log_lengths(axis: Axes, lengths: set[float] | set[int]) -> None:
    """A logarithmic axis with ticks at the lengths themselves, where they are not too close for their names."""
    axis.set_xscale("log", base=2)
    ticks: list[float] = []
    for length in sorted(lengths):
        if not ticks or length >= 1.9 * ticks[-1]:
            ticks.append(length)
    axis.set_xticks(ticks, [count(round(tick)) for tick in ticks])
    axis.minorticks_off()
    axis.set_xlim(min(lengths) / 1.25, max(lengths) * 1.25)
