"""The monitor: what the engine does now and did in the last minutes, and what went over the limits that one sets."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ipywidgets as w

from ..errors import OptionError
from ..profiling.vitals import Moment, Vitals, as_csv
from ..render import sparkline
from ..render.numbers import MISSING, duration, plural, rate, significant, size
from .panel import Panel, callback, styled

SHOWN = 120  # moments that a line holds
CSS = (
    sparkline.CSS
    + """
.mlxnb .mlxnb-tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:16px 24px;margin:8px 0}
.mlxnb .mlxnb-tile .mlxnb-value{font-size:1.15em;font-variant-numeric:tabular-nums}
.mlxnb .mlxnb-tile :is(.mlxnb-name,.mlxnb-range){color:var(--secondary)}
.mlxnb .mlxnb-tile .mlxnb-range{display:flex;justify-content:space-between;font-size:.92em}
.mlxnb .mlxnb-tile.mlxnb-over .mlxnb-value{color:var(--error)}
.mlxnb .mlxnb-limits{gap:4px 16px;flex-wrap:wrap}
.mlxnb .mlxnb-limits>*{flex:1 1 220px;width:auto}
"""
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One tile: what it reads of a Moment, how that is written, and the scale that it has at least."""

    name: str
    read: Callable[[Moment], float | None]
    write: Callable[[float], str]
    scale: float = 0.0
    beside: Callable[[Moment], str] = lambda moment: ""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a person may set for a figure: in `unit` of `factor` each, crossed above it or, with `below`, below it."""

    figure: str
    label: str
    factor: float
    below: bool = False

    def crossed(self, value: float, at: float) -> bool:
        """Whether a value is on the wrong side."""
        return value < at if self.below else value > at


def _share(value: float) -> str:
    return f"{significant(100 * value)} %"


def _celsius(value: float) -> str:
    return f"{significant(value)} °C"


def _worse(value: float | None) -> str:
    return f"95th percentile {duration(value)}" if value is not None else ""


FIGURES = (
    Figure("token rate", lambda m: m.token_rate, rate, 10.0, lambda m: plural(m.running, "request") + " running"),
    Figure("time to first token", lambda m: m.ttft_50, duration, beside=lambda m: _worse(m.ttft_95)),
    Figure("time per token", lambda m: m.tpot_50, duration, beside=lambda m: _worse(m.tpot_95)),
    Figure("queue", lambda m: m.queued, lambda n: plural(int(n), "request"), 4.0),
    Figure("memory of this process", lambda m: m.process, size, beside=lambda m: f"models {size(m.models)}"),
    Figure("free memory", lambda m: m.free, size),
    Figure("answers from the cache", lambda m: m.answers_hit, _share, 1.0),
    Figure("prompts with a cached prefix", lambda m: m.prefixes_hit, _share, 1.0),
    Figure("temperature", lambda m: m.temperature, _celsius, 100.0, lambda m: m.pressure or ""),
)
LIMITS = (
    Limit("free memory", "Memory below, GB", 1e9, below=True),
    Limit("time to first token", "First token above, ms", 1e-3),
    Limit("prompts with a cached prefix", "Prefix hits below, %", 0.01, below=True),
    Limit("temperature", "Temperature above, °C", 1.0),
)


class Monitor(Panel):
    """Looks once a second for as long as it is open."""

    title = "Monitor"
    css = CSS

    def body(self) -> Sequence[w.Widget]:
        self.vitals = Vitals(self.engine).__enter__()
        self.limits = {limit: _field(limit) for limit in LIMITS}
        self.export = w.Button(description="Export as CSV")
        self.export.on_click(self._export)
        self._line, self._tiles, self._alerts = w.HTML(), w.HTML(), w.HTML()
        self._over: dict[str, float] = {}  # the figures over their limits, and since when
        limits = styled(w.HBox(list(self.limits.values())), "mlxnb-limits")
        return [self._line, self._alerts, self._tiles, limits, styled(w.HBox([self.export]), "mlxnb-row")]

    def picture(self) -> tuple[str, str]:
        return self._line.value + self._alerts.value + self._tiles.value, self._summary()

    def glance(self) -> None:
        moments = self.vitals.moments[-SHOWN:]
        if not moments:
            self._line.value = '<div class="mlxnb-empty">The first look comes in a second.</div>'
            return
        limits = self._limits()
        self._watch(moments[-1], limits)
        self._line.value = f'<div class="mlxnb-secondary">{html.escape(self._summary())}</div>'
        tiles = "".join(tile(each, moments, limits.get(each.name), each.name in self._over) for each in FIGURES)
        self._tiles.value = f'<div class="mlxnb-tiles">{tiles}</div>'
        alerts = [_alert(name, since) for name, since in self._over.items()]
        self._alerts.value = "".join(f'<div class="mlxnb-notice" role="alert">{text}</div>' for text in alerts)

    def leave(self) -> None:
        self.vitals.close()

    def _limits(self) -> dict[str, tuple[Limit, float]]:
        found = {}
        for limit, field in self.limits.items():
            try:
                if field.value.strip():
                    found[limit.figure] = (limit, float(field.value.replace(",", ".")) * limit.factor)
            except ValueError:
                self.fail(OptionError(f"{limit.label} is {field.value!r}.", "It takes a number, or nothing."))
        return found

    def _watch(self, moment: Moment, limits: dict[str, tuple[Limit, float]]) -> None:
        for figure in FIGURES:
            value, limit = figure.read(moment), limits.get(figure.name)
            if value is not None and limit is not None and limit[0].crossed(value, limit[1]):
                self._over.setdefault(figure.name, moment.at)
            else:
                self._over.pop(figure.name, None)

    def _summary(self) -> str:
        if not self.vitals.moments:
            return "nothing was seen yet"
        now = self.vitals.moments[-1]
        said = [figure.write(value) for figure in FIGURES[:2] if (value := figure.read(now)) is not None]
        said += [f"{plural(now.queued, 'request')} waiting", f"{size(now.free)} free"]
        return " · ".join(said)

    @callback
    def _export(self) -> None:
        path = Path(time.strftime("mlxnb-monitor-%Y%m%d-%H%M%S.csv"))
        path.write_text(as_csv(self.vitals.moments), encoding="utf-8")
        self.say(f"{plural(len(self.vitals.moments), 'moment')} written to {path}.")
        self.keep_picture()


def _field(limit: Limit) -> w.Text:
    style = {"description_width": "160px"}
    return w.Text(description=limit.label, placeholder="no limit", continuous_update=False, style=style)


def tile(
    figure: Figure, moments: Sequence[Moment], limit: tuple[Limit, float] | None = None, over: bool = False
) -> str:
    """A figure now, its line, and its scale."""
    values = [figure.read(moment) for moment in moments]
    known = [value for value in values if value is not None]
    now = values[-1]
    said = figure.write(now) if now is not None else MISSING
    high = max([*known, figure.scale])
    line = sparkline.sparkline(values, f"{figure.name}: {said} now", high, SHOWN, limit[1] if limit else None)
    ends = (
        f"<span>{html.escape(figure.beside(moments[-1]))}</span><span>to {figure.write(high)}</span>" if known else ""
    )
    return (
        f'<div class="mlxnb-tile{" mlxnb-over" if over else ""}"><div class="mlxnb-name">{figure.name}</div>'
        f'<div class="mlxnb-value">{html.escape(said)}</div>{line}<div class="mlxnb-range">{ends}</div></div>'
    )


def _alert(name: str, since: float) -> str:
    return f"{name.capitalize()} is over its limit since {time.strftime('%H:%M:%S', time.localtime(since))}."
