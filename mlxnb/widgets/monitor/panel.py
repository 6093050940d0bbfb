"""The monitor: what the engine does now and did in the last minutes, and what went over the limits that one sets."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

import ipywidgets as w

from ...errors import MlxnbError, ReportError
from ...profiling.moments import Moment, as_csv, as_json, to_frame
from ...profiling.vitals import Vitals
from ...render.numbers import plural, size
from ..frame.free_file import free_file
from ..frame.panel import Panel, callback, styled
from .limits import LIMITS, Alarms, log_html
from .tiles import CSS, FIGURES, tiles

if TYPE_CHECKING:
    from pandas import DataFrame

PICTURED = 30.0  # seconds between two still pictures of a busy engine: each changes the notebook
LOG = """
.mlxnb .mlxnb-limits{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(320px,100%),1fr));gap:4px 24px;
margin:16px 0 0}
.mlxnb .mlxnb-log{margin:8px 0 0;font-variant-numeric:tabular-nums}
.mlxnb .mlxnb-log ul{list-style:none;margin:0;padding:0}
.mlxnb .mlxnb-log li{padding:0 0 0 12px;border-left:2px solid var(--border)}
.mlxnb .mlxnb-log summary{color:var(--secondary);cursor:pointer}
"""
FORMATS: dict[str, Callable[[Sequence[Moment]], str]] = {"csv": as_csv, "json": as_json}


class Monitor(Panel):
    """Looks once a second for as long as it is open; what it saw in the last quarter of an hour is kept."""

    title = "Monitor"
    css = CSS + LOG

    def body(self) -> Sequence[w.Widget]:
        self.vitals = Vitals(self.engine).__enter__()
        self.limits = {limit.figure: _field(limit.label) for limit in LIMITS}
        self.alarms = Alarms()
        self._bounds: dict[str, float] = {}
        self._last: Moment | None = None
        self._pictured: float | None = None  # when the picture was made, and whether anything ran since
        self._busy = False
        self._said: Exception | None = None
        self._line, self._tiles, self._log = w.HTML(_line(self._summary())), w.HTML(tiles(FIGURES, ())), w.HTML()
        for field in self.limits.values():
            field.observe(lambda change: self._set(), "value")
        self.exports = {kind: w.Button(description=f"Export as {kind.upper()}") for kind in FORMATS}
        for kind, button in self.exports.items():
            button.on_click(self._exporter(kind))
        python = w.HTML('<span class="mlxnb-secondary">in Python <code>mlxnb.panel("monitor").frame()</code></span>')
        if any(note.startswith("temperature not told") for note in self.vitals.missing):
            field = self.limits["Temperature"]
            field.disabled, field.placeholder = True, "not told by this machine"
        limits = styled(w.Box(list(self.limits.values())), "mlxnb-limits")
        return [
            self._line,
            self._tiles,
            limits,
            self._log,
            styled(w.HBox([*self.exports.values(), python]), "mlxnb-row"),
        ]

    def picture(self) -> tuple[str, str]:
        log = "\n".join(map(str, self.alarms.log))
        seen = time.strftime("%Y-%m-%d %H:%M:%S · ", time.localtime(self._last.at)) if self._last is not None else ""
        page = _line(seen + self._summary()) + self._tiles.value + self._log.value
        return page, f"{seen}{self._summary()}\n{log}".rstrip()

    def frame(self) -> DataFrame:
        """What was seen, a row for each second, as a DataFrame.

        Raises:
            BackendMissingError: pandas is not installed.
        """
        return to_frame(self.vitals.moments)

    def glance(self) -> None:
        self.vitals.follow(self.engine)
        if self.vitals.failed is not None and self._said is not self.vitals.failed:
            self._said = self.vitals.failed
            self.fail(self.vitals.failed)
        moments = self.vitals.moments
        new = list(takewhile(lambda moment: moment is not self._last, reversed(moments)))[::-1]
        if not new:
            return
        self._last = new[-1]
        told = len(self.alarms.log)
        for moment in new:
            self.alarms.look(moment, self._bounds)
            self._busy |= bool(moment.running or moment.token_rate)
        self._line.value = _line(self._summary())
        self._tiles.value = tiles(FIGURES, moments, self._bounds, self.alarms.over)
        self._log.value = log_html(self.alarms)
        since = math.inf if self._pictured is None else time.monotonic() - self._pictured
        if len(self.alarms.log) != told or (since >= PICTURED and (self._busy or since == math.inf)):
            self.keep_picture()

    def keep_picture(self) -> None:
        self._pictured, self._busy = time.monotonic(), False
        super().keep_picture()

    def leave(self) -> None:
        self.vitals.close()
        self.keep_picture()

    @callback
    def _set(self) -> None:
        """Takes the limits; while one of them is no number it holds no more, and the others do."""
        wrong: MlxnbError | None = None
        self._bounds = {}
        for limit in LIMITS:
            try:
                bound = limit.value(self.limits[limit.figure].value)
            except MlxnbError as err:
                wrong = err
                continue
            if bound is not None:
                self._bounds[limit.figure] = bound
        if wrong is not None:
            raise wrong

    def _summary(self) -> str:
        if not self.vitals.moments:
            return "the first look comes in a second"
        now = self.vitals.moments[-1]
        rate, ttft, *_ = FIGURES
        said = [figure.write(value) for figure in (rate, ttft) if (value := figure.read(now)) is not None]
        if len(said) > 1:
            said[1] += " to the first token"
        said += [f"{plural(now.queued, 'request')} waiting", f"{size(now.free)} free"]
        over = ", ".join(name.lower() for name in self.alarms.over)
        return " · ".join([*said, f"over the limit: {over}"] if over else said)

    def _exporter(self, kind: str) -> Callable[..., None]:
        return lambda _: self.do(lambda: self._export(kind))

    def _export(self, kind: str) -> None:
        moments = self.vitals.moments
        path = free_file(time.strftime("mlxnb-monitor-%Y%m%d-%H%M%S"), kind)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(FORMATS[kind](moments))
        except OSError as err:
            raise ReportError(
                f"What was seen cannot be written to {path}: {err.strerror}.",
                "The notebook's folder takes no files: change it with %cd.",
            ) from err
        self.say(f"{plural(len(moments), 'moment')} written to {path}.")
        self.keep_picture()


def _field(label: str) -> w.Text:
    style = {"description_width": "200px"}
    return w.Text(description=label, placeholder="no limit", continuous_update=False, style=style)


def _line(said: str) -> str:
    return f'<div class="mlxnb-secondary">{html.escape(said)}</div>'
