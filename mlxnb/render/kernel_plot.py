"""The plot of attention kernels compared: prefill and decode rate by context length, stock and patched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .plot import CYCLE, Plot, label_line, new_figure

if TYPE_CHECKING:
    from ..kernels.bench import Bench

ARMS = (("stock", CYCLE[1]), ("patched", CYCLE[0]))


def bench_plot(bench: Bench) -> Plot:
    """Medians as lines, the range of all runs as bands."""
    cache = f"{bench.kv_bits}-bit cache" if bench.kv_bits else "dense cache"
    pairs = bench.rows[0].prefill_ratio.pairs if bench.rows else 0
    caption = f"{bench.model}, {cache} · {bench.machine} · median and range of n = {pairs} alternating runs"
    figure, axes = new_figure(
        "Generation rate by context length", ["Prefill", "Decode"], "context (tokens)", "rate (tokens / s)", caption
    )
    for axis, phase in zip(axes, ("prefill", "decode"), strict=True):
        ends = {}
        for arm, colour in ARMS:
            lengths, median, low, high = _series(bench, arm, phase)
            axis.plot(lengths, median, color=colour, marker="o", markersize=3, linewidth=1.5)
            axis.fill_between(lengths, low, high, color=colour, alpha=0.2, linewidth=0)
            ends[arm] = (lengths[-1], median[-1], colour)
        axis.set_xscale("log", base=2)
        axis.set_xticks(lengths, [str(length) for length in lengths])
        axis.set_ylim(bottom=0)
        higher = max(ends, key=lambda arm: ends[arm][1])
        for arm, (x, y, colour) in ends.items():
            label_line(axis, x, y, arm, colour, above=arm == higher)
    return Plot(figure, f"Generation rate by context length: {caption}")


def _series(bench: Bench, arm: str, phase: str) -> tuple[list[int], list[float], list[float], list[float]]:
    lengths = [row.length for row in bench.rows]
    rates = [[run[arm][phase] for run in bench.runs if run["length"] == length] for length in lengths]
    median = [float(np.median(each)) for each in rates]
    return lengths, median, [min(each) for each in rates], [max(each) for each in rates]
