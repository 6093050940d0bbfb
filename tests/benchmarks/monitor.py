"""What an open monitor costs the engine: the decode rate with it and without it, in turns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import mlxnb
from tests.tiny import save

from .caches import DIFFERS
from .pairs import Comparison, alternate

TOKENS, ANSWERS = 200, 4  # an arm takes several looks of the monitor, which come once a second
PAIRS = 12


@cache
def _model() -> str:
    return str(save("Qwen3Config", DIFFERS, Path(tempfile.mkdtemp()), dtype="bfloat16"))


def _rate(backend: str) -> float:
    """Generated tokens a second over several answers."""
    options: dict[str, Any] = {"model": _model(), "backend": backend, "cache": "off", "raw": True}
    began, tokens = time.perf_counter(), 0
    for i in range(ANSWERS):
        made = mlxnb.engine().generate(f"the items of list {i}", max_tokens=TOKENS, temperature=1.0, seed=i, **options)
        tokens += made.generation_tokens
    return tokens / (time.perf_counter() - began)


def open_monitor(backend: str) -> Comparison:
    """The panel as it is, with the messages of its widgets; no page is there to take them."""

    def watched() -> float:
        with mlxnb.panel("monitor"):
            return _rate(backend)

    _rate(backend)
    rates = alternate(watched, lambda: _rate(backend), pairs=PAIRS)
    return Comparison(f"monitor, {backend}", "open", "closed", "tok/s", rates, 0.99)


BENCHMARKS: dict[str, Callable[[], Comparison]] = {"monitor": lambda: open_monitor("torch")}
