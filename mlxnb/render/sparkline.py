"""Small lines of recent values, as SVG in the colours of the theme: for figures that change while one looks."""

from __future__ import annotations

import html
from collections.abc import Sequence

WIDTH, HEIGHT = 200, 36
PLAIN = 'fill="none" stroke="currentColor"'  # where the style sheet is stripped
CSS = """
.mlxnb .mlxnb-spark{display:block;width:100%;height:36px;overflow:visible}
.mlxnb .mlxnb-spark polyline{fill:none;stroke:var(--brand);stroke-width:1.5;vector-effect:non-scaling-stroke}
.mlxnb .mlxnb-spark line{stroke:var(--border);vector-effect:non-scaling-stroke}
.mlxnb .mlxnb-spark line.mlxnb-limit{stroke:var(--error);stroke-dasharray:4 3}
"""


def sparkline(
    values: Sequence[float | None], label: str, high: float, span: int = 0, limit: float | None = None
) -> str:
    """A line from 0 to `high`, the newest value at the right edge of `span` places; None is a gap. `label` is what a
    screen reader says of it; `limit` draws a dashed line.
    """
    span, high = max(span, len(values), 2), high if high > 0 else 1.0
    runs: list[list[str]] = [[]]
    for i, value in enumerate(values, span - len(values)):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(f"{WIDTH * i / (span - 1):.1f},{_y(value, high):.1f}")
    lines = "".join(f'<polyline {PLAIN} points="{" ".join(run if len(run) > 1 else run * 2)}"/>' for run in runs if run)
    mark = ""
    if limit is not None and limit <= high:
        at = f"{_y(limit, high):.1f}"
        mark = f'<line class="mlxnb-limit" {PLAIN} x1="0" x2="{WIDTH}" y1="{at}" y2="{at}"/>'
    base = f'<line {PLAIN} x1="0" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}"/>'
    box = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none"'
    return f'<svg class="mlxnb-spark" {box} role="img" aria-label="{html.escape(label)}">{base}{mark}{lines}</svg>'


def _y(value: float, high: float) -> float:
    return HEIGHT * (1 - min(max(value / high, 0.0), 1.0))
