"""Plots of the machine over time: memory while the cases ran, and while requests followed each other in a stress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...render.numbers import count, duration, size
from ...render.plot import CYCLE, GREY, Plot, literal, new_figure
from ...render.plot_labels import SMALL, label_ends, settle
from ...render.text import shortened
from ..report import Report, Stress
from ..report.words import case_names
from .plots_context import caption

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = (("rss", "process", CYCLE[0]), ("gpu_memory", "GPU", CYCLE[1]), ("swap", "swap", CYCLE[3]))


def memory(report: Report) -> Plot | None:
    """Memory of the process, of the GPU and in swap, over the time of the profile; cases stand above their spans."""
    times = [sample.at for sample in report.samples]
    if not times or times[-1] <= times[0]:
        return None
    lines = {}
    for field, name, colour in LINES:
        values = [getattr(sample, field) for sample in report.samples]
        if None not in values and (field != "swap" or max(values) > min(values)):
            lines[name] = ([value / 1e9 for value in values], colour)
    every = (times[-1] - times[0]) / (len(times) - 1)
    said = caption(report, f"n = {count(len(times))} samples, one every {duration(every)}", "shades: cases")
    title = "Memory over time"
    figure, (axis,) = new_figure(title, [""], "time since the profile began (s)", "memory (GB)", said)
    for values, colour in lines.values():
        axis.plot(times, values, color=colour, linewidth=1.4)
    axis.set_xlim(times[0], times[-1])
    axis.set_ylim(0, 1.18 * max(max(values) for values, _ in lines.values()))
    label_ends(axis, [(times[-1], values[-1], name, colour) for name, (values, colour) in lines.items()])
    _spans(axis, report)
    return Plot(figure, f"{title}: {said}")


def _spans(axis: Axes, report: Report) -> None:
    """A shade over every other case, and names where there is room; cases that took turns are one span."""
    spans = _blocks(report)
    settle(axis)
    free = float("-inf")
    names = case_names(report)
    for i, (cases, begin, end) in enumerate(spans):
        axis.axvspan(begin, end, color=GREY, alpha=0.10 if i % 2 else 0.0, linewidth=0)
        name = names[cases[0]] if len(cases) == 1 else f"{report.cases[cases[0]].scenario}, in turns"
        made = axis.annotate(
            literal(shortened(name, 22)), (begin, 0.97), xytext=(2, 0), xycoords=("data", "axes fraction"),
            textcoords="offset points", color=GREY, fontsize=SMALL - 1.5, va="top", ha="left",
        )  # fmt: skip
        made.set_in_layout(False)
        box, until = made.get_window_extent(), axis.transData.transform((end, 0))[0]
        if box.x1 > until or box.x0 < free:
            made.remove()
        else:
            free = box.x1


def _blocks(report: Report) -> list[tuple[list[int], float, float]]:
    """Cases with the seconds between which they ran; those whose times overlap, as in turns, are one block."""
    found: list[tuple[list[int], float, float]] = []
    for case in range(len(report.cases)):
        timed = [run.timings for run in report.of(case) if run.timings is not None and run.timings.token_times]
        if not timed:
            continue
        begin, end = min(t.accepted for t in timed), max(t.token_times[-1] for t in timed)
        if found and begin < found[-1][2]:
            cases, first, last = found.pop()
            found.append(([*cases, case], min(first, begin), max(last, end)))
        else:
            found.append(([case], begin, end))
    return found


def stress(report: Report) -> Plot | None:
    """Memory after each request of the stress, with the growth that was fitted."""
    held = [each for each in report.stress if len(each.memory) > 1]
    if not held:
        return None
    title = "Memory over a stress"
    verdicts = dict.fromkeys(map(_verdict, held))
    said = caption(report, "after each request; the line is the growth that was found", *verdicts)
    names = case_names(report)
    figure, (axis,) = new_figure(title, [""], "time of the stress (s)", "change of memory (MB)", said)
    ends = []
    for each, colour in zip(held, CYCLE, strict=False):
        times, change = _change(each)
        axis.plot(times, change, color=colour, linewidth=0.8, marker="o", markersize=2, alpha=0.6)
        line = _trend(each, change)
        axis.plot([times[0], times[-1]], line, color=colour, linewidth=2.2)
        name = f"{shortened(names[each.case], 22)}: " if len(held) > 1 else ""
        ends.append((times[-1], line[1], f"{name}{_signed(each.growth)} a request", colour))
    axis.set_xlim(left=0)
    label_ends(axis, ends)
    return Plot(figure, f"{title}: {said}")


def _change(each: Stress) -> tuple[list[float], list[float]]:
    began, first = each.memory[0]
    return [at - began for at, _ in each.memory], [(held - first) / 1e6 for _, held in each.memory]


def _trend(each: Stress, change: list[float]) -> list[float]:
    """The growth as a line through the middle of the points: its ends, in MB."""
    half, middle = each.growth * (len(change) - 1) / 2e6, sum(change) / len(change)
    return [middle - half, middle + half]


def _verdict(each: Stress) -> str:
    return f"{each.verdict} ({each.confidence:.0%} sure)" if each.confidence else each.verdict


def _signed(growth: float) -> str:
    return f"+{size(growth)}" if growth > 0 else size(growth).replace("-", "−")
