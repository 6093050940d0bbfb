"""What follows from what was measured: ratios, findings with their remedies, recommendations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .measured import Value


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure of one case over the same figure of another, pair by pair where they took turns: median, and a 95 %
    interval of it.
    """

    figure: str
    median: float
    low: float
    high: float
    pairs: int

    @property
    def differs(self) -> bool:
        """Whether 1 lies outside the interval."""
        return not self.low <= 1 <= self.high


@dataclass(frozen=True, slots=True)
class Comparison:
    """Case `ours` beside case `theirs`, both indices of Report.cases; `report.turns` tells whether they took any."""

    ours: int
    theirs: int
    ratios: tuple[Ratio, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """What a finding's remedy would change about the request or the model, so that it can be measured at once."""

    label: str
    options: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Finding:
    """What limits a case. `rule` is its name, `value` the figure that crossed `threshold`, both in `unit`; `evidence`
    says it in words, `cause` and `remedy` what it means and what to do. `tried` is what the remedy gave, `was` and
    `became` the medians of that figure without it and with it.
    """

    rule: str
    case: int | None
    figure: str
    value: float
    threshold: float
    unit: str
    evidence: str
    cause: str
    remedy: str
    trial: Trial | None = None
    tried: Ratio | None = None
    was: float | None = None
    became: float | None = None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Options for a use and a goal, with the gain that the measurements let one expect, and where it came from."""

    use: str
    goal: str
    options: Mapping[str, Value]
    gain: str
    reason: str


@dataclass(frozen=True, slots=True)
class OtherModel:
    """A bigger or a smaller model that fits this memory, and the decode rate that the roofline gives it."""

    name: str
    weights: int
    fits: str
    decode_rate: float | None
    note: str = ""
