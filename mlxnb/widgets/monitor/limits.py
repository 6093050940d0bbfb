"""Limits that a person sets for what a monitor sees: which are crossed now, and a log of when that began and ended."""

from __future__ import annotations

import html
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...errors import OptionError
from ...profiling.moments import Moment
from ...render.numbers import duration, significant, size

KEPT = 100  # entries of the log
FEWEST = 10  # lookups that a hit rate is held against its limit from: the first prompts of a session always miss


def share(value: float) -> str:
    """A share as per cent."""
    return f"{significant(100 * value)} %"


def celsius(value: float) -> str:
    """Degrees."""
    return f"{significant(value)} °C"


@dataclass(frozen=True, slots=True)
class Limit:
    """What may be set: of a figure's name, what it reads of a Moment (None is no news), how that is written, in units
    of `factor` each; crossed above it or, with `below`, below it.
    """

    figure: str
    label: str
    read: Callable[[Moment], float | None]
    write: Callable[[float], str]
    factor: float
    below: bool = False

    def crossed(self, value: float, at: float) -> bool:
        """Whether a value is on the wrong side."""
        return value < at if self.below else value > at

    def value(self, text: str) -> float | None:
        """What a person wrote, in the figure's own unit; None where that is nothing.

        Raises:
            OptionError: it is no number from 0 up.
        """
        if not text.strip():
            return None
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number >= 0):
            raise OptionError(
                f"The limit {self.label!r} is {text.strip()!r}.", "It takes a number such as 1.5, or nothing."
            )
        return number * self.factor


def _prefixes(moment: Moment) -> float | None:
    return moment.prefixes_hit if moment.prefixes_n >= FEWEST else None


LIMITS = (
    Limit("Free memory", "Free memory below, GB", lambda m: m.free, size, 1e9, below=True),
    Limit("Memory of this process", "Process memory above, GB", lambda m: m.process, size, 1e9),
    Limit("Time to first token", "First token above, ms", lambda m: m.ttft_slowest, duration, 1e-3),
    Limit("Prompts with a cached prefix", "Prefix hits below, %", _prefixes, share, 0.01, below=True),
    Limit("Temperature", "Temperature above, °C", lambda m: m.temperature, celsius, 1.0),
)


@dataclass(frozen=True, slots=True)
class Alert:
    """One entry of the log: a limit was crossed at a time (seconds since the epoch), or is kept again."""

    at: float
    limit: Limit
    value: float
    bound: float
    over: bool

    def __str__(self) -> str:
        side = "below" if self.limit.below else "above"
        where = f"{side} the limit of {self.limit.write(self.bound)}"
        when = time.strftime("%H:%M:%S", time.localtime(self.at))
        said = where if self.over else f"no longer {where}"
        return f"{when} {self.limit.figure}: {self.limit.write(self.value)}, {said}"


class Alarms:
    """Looks at moments as they come. `over` are the limits that are crossed now, `log` what happened, the newest last.

    A first token is held against its limit as its answer ends, and stays what is known until the next one does.
    """

    def __init__(self) -> None:
        self.over: dict[str, Alert] = {}  # by the figure's name
        self.log: deque[Alert] = deque(maxlen=KEPT)
        self._known: dict[str, float] = {}

    def look(self, moment: Moment, bounds: Mapping[str, float]) -> None:
        """Hold a moment against the bounds, by the figures' names. Another limit, or none, ends its alert."""
        for limit in LIMITS:
            news, bound = limit.read(moment), bounds.get(limit.figure)
            if news is not None:
                self._known[limit.figure] = news
            value = self._known.get(limit.figure)
            if limit.figure in self.over and self.over[limit.figure].bound != bound:
                del self.over[limit.figure]
            if bound is None or value is None:
                continue
            crossed = limit.crossed(value, bound)
            if crossed != (limit.figure in self.over):
                self._changed(Alert(moment.at, limit, value, bound, crossed))

    def _changed(self, alert: Alert) -> None:
        self.log.append(alert)
        if alert.over:
            self.over[alert.limit.figure] = alert
        else:
            del self.over[alert.limit.figure]


def log_html(alarms: Alarms) -> str:
    """The log, the newest first; empty where nothing happened."""
    entries = [f"<li>{html.escape(str(alert))}</li>" for alert in reversed(alarms.log)]
    if not entries:
        return ""
    older = f"<details><summary>{len(entries) - 5} earlier</summary><ul>{''.join(entries[5:])}</ul></details>"
    return f'<div class="mlxnb-log" role="log"><ul>{"".join(entries[:5])}</ul>{older if len(entries) > 5 else ""}</div>'
