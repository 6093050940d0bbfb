"""Plots in one look: readable on light and dark, a colour-blind-safe cycle, the machine named inside the figure."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any

from .text import one_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette (2008), without black and yellow, which vanish on a dark or a white page.
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
GREY = "#808080"
SIZE = (6.8, 3.8)  # inches
CAPTION = 118  # characters of a caption's line, which fit into the width
DPI = 100  # of the page; the image has twice as many


class Plot:
    """A matplotlib figure that shows itself as one PNG at 2×, with `text` as its plain twin."""

    def __init__(self, figure: Figure, text: str) -> None:
        self.figure = figure
        self.text = text

    def png(self) -> bytes:
        """The image, background transparent."""
        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=2 * DPI, transparent=True)
        return file.getvalue()

    @property
    def width(self) -> int:
        """Pixels that it takes on the page."""
        return int(self.figure.get_figwidth() * DPI)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"image/png": self.png(), "text/plain": self.text}, {"image/png": {"width": self.width}}

    def __repr__(self) -> str:
        return self.text


def new_figure(title: str, panels: list[str], x: str, y: str, caption: str) -> tuple[Figure, list[Axes]]:
    """A figure with one axes for each of `panels`, which share the x axis `x`; `y` is the left label."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = list(figure.subplots(1, len(panels), squeeze=False)[0])
    figure.suptitle(literal(title), color=GREY, fontsize=11, x=0.01, ha="left")
    for axis, panel in zip(axes, panels, strict=True):
        _style(axis)
        axis.set_title(literal(panel) if len(panels) > 1 else "", color=GREY, fontsize=9, loc="left")
        axis.set_xlabel(x)
    axes[0].set_ylabel(y)
    lines = textwrap.wrap(literal(caption), CAPTION)
    figure.supxlabel("\n".join(lines), color=GREY, fontsize=7, x=0.01, ha="left")
    return figure, axes


def literal(text: str) -> str:
    """A text on one row that Matplotlib shows as it is: a dollar sign would begin mathematics."""
    return one_row(text).replace("$", r"\$")


def _style(axis: Axes) -> None:
    axis.set_prop_cycle(color=CYCLE)
    axis.grid(color=GREY, alpha=0.25, linewidth=0.6)
    axis.set_facecolor("none")
    for name, spine in axis.spines.items():
        spine.set_color(GREY)
        spine.set_visible(name in ("left", "bottom"))
    axis.tick_params(colors=GREY, which="both", labelsize=8)
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set_color(GREY)
        label.set_fontsize(9)


def label_line(axis: Axes, x: float, y: float, text: str, colour: str, above: bool = True) -> None:
    """Name a line where it ends, in its own colour."""
    axis.annotate(
        text, (x, y), xytext=(0, 5 if above else -11), textcoords="offset points", color=colour, fontsize=8, ha="right"
    )
