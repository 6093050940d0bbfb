"""The tables of `mlxnb backends`: how each backend stands, how fast it was measured, and what to do."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..backends.rates import ANSWER, PROMPT, Rates
from ..runtime.remedies import Recommendation
from ..runtime.standing import Standing, Status
from .cells import Cell, Command, Dot, Kind
from .numbers import significant
from .table import Table

DOTS: dict[Status, Kind] = {"ready": "success", "possible": "warning", "missing": "off"}


def backends_table(standings: Sequence[Standing], model: str) -> Table:
    """Every backend in the order that `auto` takes them, with the figures that decide it."""
    columns: list[str | tuple[str, str]] = [
        "backend",
        "status",
        "runs on",
        ("prefill", "tok/s"),
        ("decode", "tok/s"),
        ("typical", "s"),
        "measured",
        "why, and what to do",
    ]
    caption = f"Backends for {model}, the first is taken. Typical: {PROMPT} prompt and {ANSWER} answer tokens"
    return Table(columns, [_row(each) for each in standings], bold="backend", caption=caption)


def _row(standing: Standing) -> tuple[Cell, ...]:
    word = "ready, in memory" if standing.loaded else standing.status
    state = Dot("success" if standing.loaded else DOTS[standing.status], word)
    return (
        standing.backend,
        state,
        standing.device or None,
        *_figures(standing.rates),
        _why(standing),
    )


def _figures(rates: Rates | None) -> tuple[Cell, ...]:
    if rates is None:
        return None, None, None, "not measured"
    when = time.strftime("%Y-%m-%d", time.localtime(rates.at))
    return rates.prefill, rates.decode, rates.typical, when


def _why(standing: Standing) -> Cell:
    why = f"{standing.reason}; {standing.rates_reason}" if standing.rates_reason else standing.reason
    if standing.status == "missing" and standing.remedy:
        return Command(standing.remedy, f"{why}:")
    return f"{why}: {standing.remedy}" if standing.remedy else why


def recommendations_table(found: Sequence[Recommendation]) -> Table:
    """What to do, the largest gain first."""
    rows = [(each.remedy, each.backend, _gain(each), each.reason) for each in found]
    return Table(("to do", "backend", "gain", "why"), rows, bold="to do", caption="What would help")


def _gain(each: Recommendation) -> str:
    if each.gain is not None:
        return f"{significant(each.gain)} times as fast, measured"
    return "a fact of the hardware, not measured" if each.basis == "hardware" else "not measured"
