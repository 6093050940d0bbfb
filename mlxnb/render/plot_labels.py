"""Names beside what they name: at the ends of lines, and around points, so that no two of them overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .plot import GREY, literal
from .text import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation, Text
    from matplotlib.transforms import Bbox

SMALL = 8  # points, of a label's font
# The first colour of the cycle is too dark for small letters on a dark page: the same blue, lighter.
INK = {"#0072B2": "#1f87c7"}
LINE = 11  # points between two lines of text
Label = tuple[float, float, str, str]  # x and y in the axes' own units, text, colour

# Where a label may stand around its point, in points of paper, the best place first. Further off it would name another.
PLACES = (
    (7, 0, "left", "center"), (-7, 0, "right", "center"), (0, 7, "center", "bottom"), (0, -7, "center", "top"),
    (6, 8, "left", "bottom"), (-6, 8, "right", "bottom"), (6, -8, "left", "top"), (-6, -8, "right", "top"),
    (10, 16, "left", "bottom"), (-10, 16, "right", "bottom"), (10, -16, "left", "top"), (-10, -16, "right", "top"),
)  # fmt: skip


def settle(axis: Axes) -> None:
    """Lay the figure out, so that places on paper are what they will be."""
    from matplotlib.figure import Figure

    if isinstance(axis.figure, Figure):
        axis.figure.draw_without_rendering()


def label_ends(axis: Axes, labels: Sequence[Label]) -> None:
    """Name lines to the right of where they end, each in its own colour and apart from the others."""
    settle(axis)
    points = 72 / axis.figure.dpi  # of paper a pixel
    ordered = sorted(labels, key=lambda label: axis.transData.transform(label[:2])[1])
    lowest = float("-inf")
    for x, y, text, colour in ordered:
        at = axis.transData.transform((x, y))[1] * points
        lowest = max(at, lowest + LINE)
        axis.annotate(
            literal(text), (x, y), xytext=(5, lowest - at), textcoords="offset points", color=ink(colour),
            fontsize=SMALL, ha="left", va="center", annotation_clip=False,
        )  # fmt: skip


def label_points(axis: Axes, labels: Sequence[Label], beside: Sequence[tuple[float, float]] = ()) -> list[str]:
    """Name points where there is room around them, off the points `beside`; the texts for which there is none."""
    settle(axis)
    inside = axis.get_window_extent()
    taken = [_around(axis, x, y) for x, y in [*((x, y) for x, y, _, _ in labels), *beside]]
    taken += [box for text in axis.texts for box in _boxes(text, axis.figure.dpi)]
    left_out = []
    for x, y, text, colour in labels:
        made = _placed(axis, (x, y, text, colour), taken, inside)
        if made is None:
            left_out.append(text)
        else:
            taken.append(made.get_window_extent())
    return left_out


def _placed(axis: Axes, label: Label, taken: Sequence[Bbox], inside: Bbox) -> Annotation | None:
    x, y, text, colour = label
    for dx, dy, ha, va in PLACES:
        made = axis.annotate(
            literal(text), (x, y), xytext=(dx, dy), textcoords="offset points", color=ink(colour), fontsize=SMALL,
            ha=ha, va=va,
        )  # fmt: skip
        made.set_in_layout(False)
        box = made.get_window_extent()
        whole = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
        if whole and not any(box.overlaps(other) for other in taken):
            return made
        made.remove()
    return None


def _boxes(text: Text, dpi: float, steps: int = 12) -> list[Bbox]:
    """The place of a text. Around one that rises from left to right the upright box is mostly empty: a row of small
    ones along it.
    """
    from matplotlib.transforms import Bbox

    whole = text.get_window_extent()
    if not 0 < text.get_rotation() < 90:
        return [whole]
    half = float(text.get_fontsize()) * dpi / 72 / 2
    ends = whole.x0 + half, whole.y0 + half, whole.width - 2 * half, whole.height - 2 * half
    middles = [(ends[0] + ends[2] * i / steps, ends[1] + ends[3] * i / steps) for i in range(steps + 1)]
    return [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in middles]


def _around(axis: Axes, x: float, y: float, points: float = 3.0) -> Bbox:
    """The place that a marker takes, in pixels."""
    from matplotlib.transforms import Bbox

    at, reach = axis.transData.transform((x, y)), points * axis.figure.dpi / 72
    return Bbox.from_extents(at[0] - reach, at[1] - reach, at[0] + reach, at[1] + reach)


def ink(colour: str) -> str:
    """A colour of the cycle as letters have it."""
    return INK.get(colour, colour)


def name_rows(axis: Axes, names: Sequence[str], longest: int = 34) -> None:
    """Name rows from the top down; a long name is cut."""
    axis.set_yticks(range(len(names)), [literal(shortened(name, longest)) for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)
    for label in axis.get_yticklabels():
        label.set_color(GREY)
