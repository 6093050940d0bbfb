"""Tiles: small live plots, each a figure as it is now, its line over the last moments, and its scale."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...profiling.moments import Moment
from ...render import sparkline
from ...render.numbers import MISSING, count, duration, plural, rate, size
from .limits import Alert, celsius, share

SHOWN = 120  # moments that a line holds
CSS = (
    sparkline.CSS
    + """
.mlxnb .mlxnb-tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(236px,100%),1fr));gap:16px 24px;
margin:8px 0}
.mlxnb .mlxnb-tile{min-width:0}
.mlxnb .mlxnb-tile .mlxnb-value{font-size:1.15em;font-variant-numeric:tabular-nums}
.mlxnb .mlxnb-tile .mlxnb-value.mlxnb-none{font-size:inherit;line-height:1.725;color:var(--secondary)}
.mlxnb .mlxnb-tile :is(.mlxnb-name,.mlxnb-range){color:var(--secondary)}
.mlxnb .mlxnb-tile .mlxnb-range{display:flex;justify-content:space-between;gap:0 8px;font-size:.92em;min-height:1.5em;
font-variant-numeric:tabular-nums}
.mlxnb .mlxnb-tile .mlxnb-range>*{white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.mlxnb .mlxnb-tile .mlxnb-more{font-size:.8em;color:var(--secondary);margin-left:8px}
.mlxnb .mlxnb-tile.mlxnb-over :is(.mlxnb-value,.mlxnb-beside){color:var(--error)}
"""
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One tile: what it reads of a Moment, how that is written, the scale that it has at least, what stands under its
    line, the words where it is not known, and what follows the figure in small.
    """

    name: str
    read: Callable[[Moment], float | None]
    write: Callable[[float], str]
    scale: float = 0.0
    beside: Callable[[Moment], str] = lambda moment: ""
    unknown: Callable[[Moment], str] = lambda moment: MISSING
    more: Callable[[Moment], str] = lambda moment: ""


def _median(n: int) -> str:
    return f"median of {plural(n, 'answer')}"


def _p95(value: float | None) -> str:
    return f"p95 {duration(value)}" if value is not None else "p95 from 20 answers on"


def _no_sensor(moment: Moment) -> str:
    pressure = f"; thermal pressure {moment.pressure}" if moment.pressure else ""
    return f"not told by this machine{pressure}"


def _no_answer(moment: Moment) -> str:
    return "no answer yet"


def _no_lookup(moment: Moment) -> str:
    return "no lookup yet"


FIGURES = (
    Figure("Token rate", lambda m: m.token_rate, rate, 10.0, lambda m: f"{plural(m.running, 'request')} running"),
    Figure(
        "Time to first token",
        lambda m: m.ttft_50,
        duration,
        0.0,
        lambda m: _median(m.ttft_n),
        _no_answer,
        lambda m: _p95(m.ttft_95),
    ),
    Figure(
        "Time per token",
        lambda m: m.tpot_50,
        duration,
        0.0,
        lambda m: _median(m.tpot_n),
        _no_answer,
        lambda m: _p95(m.tpot_95),
    ),
    Figure("Queue", lambda m: m.queued, lambda n: f"{count(int(n))} waiting", 4.0),
    Figure(
        "Memory of this process",
        lambda m: m.process,
        size,
        0.0,
        lambda m: f"models {size(m.models)}",
        lambda m: "not told yet",
    ),
    Figure("Free memory", lambda m: m.free, size),
    Figure(
        "Answers from the cache",
        lambda m: m.answers_hit,
        share,
        1.0,
        lambda m: f"of the last {plural(m.answers_n, 'lookup')}",
        _no_lookup,
    ),
    Figure(
        "Prompts with a cached prefix",
        lambda m: m.prefixes_hit,
        share,
        1.0,
        lambda m: f"of the last {plural(m.prefixes_n, 'lookup')}",
        _no_lookup,
    ),
    Figure("Temperature", lambda m: m.temperature, celsius, 100.0, lambda m: m.pressure or "", _no_sensor),
)


def tiles(
    figures: Sequence[Figure],
    moments: Sequence[Moment],
    bounds: Mapping[str, float] | None = None,
    over: Mapping[str, Alert] | None = None,
) -> str:
    """A tile for each figure of the last of the moments; before the first there is a place for each."""
    bounds, over = bounds or {}, over or {}
    moments = moments[-SHOWN:]
    made = (_tile(each, moments, bounds.get(each.name), over.get(each.name)) for each in figures)
    return f'<div class="mlxnb-tiles">{"".join(made)}</div>'


def _tile(figure: Figure, moments: Sequence[Moment], bound: float | None, alert: Alert | None) -> str:
    values = [figure.read(moment) for moment in moments]
    last = moments[-1] if moments else None
    now = values[-1] if values else None
    said = figure.write(now) if now is not None else figure.unknown(last) if last is not None else MISSING
    high = max([*(value for value in values if value is not None), figure.scale])
    line = sparkline.sparkline(values, f"{figure.name}: {said} now", high, SHOWN, bound)
    beside = (
        _beyond(alert) if alert is not None else figure.beside(last) if last is not None and now is not None else ""
    )
    scale = f"0 to {figure.write(high)}" if any(value is not None for value in values) else ""
    more = figure.more(last) if last is not None and now is not None else ""
    small = f'<span class="mlxnb-more">{html.escape(more)}</span>' if more else ""
    return (
        f'<div class="mlxnb-tile{" mlxnb-over" if alert else ""}"><div class="mlxnb-name">{figure.name}</div>'
        f'<div class="mlxnb-value{" mlxnb-none" if now is None else ""}">{html.escape(said)}{small}</div>{line}'
        f'<div class="mlxnb-range"><span class="mlxnb-beside">{html.escape(beside)}</span>'
        f"<span>{html.escape(scale)}</span></div></div>"
    )


def _beyond(alert: Alert) -> str:
    """The alert in a word. A first token that is too late is that of one answer, and the tile shows the median."""
    since = time.strftime("%H:%M:%S", time.localtime(alert.at))
    return f"limit {alert.limit.write(alert.bound)}, since {since}"
