"""The plot of the time inside a token: what each part of a decode step takes."""

from __future__ import annotations

from ...render.numbers import count, duration
from ...render.plot import CYCLE, GREY, SIZE, Plot, literal, new_figure
from ...render.plot_labels import SMALL, name_rows
from ...render.text import shortened
from ..report import Inside, Report
from ..report.by_part import by_part
from ..report.words import counted, model_names, part_name
from .plots_context import caption

PANELS = 3


def token(report: Report) -> Plot | None:
    """Bars of the parts, largest first, a panel for each look inside."""
    looks = [each for each in report.insides if each.shares and each.synchronised > 0][:PANELS]
    if not looks:
        return None
    parts = list(dict.fromkeys(part for each in looks for part, _ in by_part(each)))
    title = "Time inside a token"
    steps = counted([each.steps for each in looks], "step")
    said = caption(report, f"average over the middle half of {steps}, timed with a wait after each part")
    panels = [_panel(report, each) for each in looks]
    figure, axes = new_figure(title, [""] * len(looks), "time (ms)", "", said)
    figure.set_size_inches(SIZE[0], max(2.2, 1.8 + 0.27 * len(parts)))
    for axis, look, panel in zip(axes, looks, panels, strict=True):
        axis.set_title("\n".join(map(literal, panel)), color=GREY, fontsize=SMALL + 0.5, loc="left")
        took = dict(by_part(look))
        values = [took.get(part, 0.0) * 1e3 for part in parts]
        axis.barh(range(len(parts)), values, color=CYCLE[0], alpha=0.9, height=0.62)
        name_rows(axis, list(map(part_name, parts)) if axis is axes[0] else [""] * len(parts))
        axis.set_xlim(0, max(max(values) * (1.35 + 0.25 * len(looks)), 1e-6))
        for row, part in enumerate(parts):
            if part in took:
                text = f"{duration(took[part])} · {took[part] / look.synchronised:.0%}"
                axis.annotate(text, (values[row], row), xytext=(4, 0), textcoords="offset points", va="center",
                              color=GREY, fontsize=SMALL)  # fmt: skip
    return Plot(figure, f"{title}: {said}")


def _panel(report: Report, look: Inside) -> tuple[str, ...]:
    name = [shortened(model_names(report)[look.model], 26)] if len(report.models) > 1 else []
    whole = f"{duration(look.synchronised)}, {duration(look.free)} without waits"
    return (*name, f"{count(look.context)} tokens", whole)
