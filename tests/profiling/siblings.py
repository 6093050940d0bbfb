"""Stand-ins for the other parts of a profile, so that what it measures is tested by itself."""

from __future__ import annotations

import importlib
from typing import Any

from mlxnb.profiling.model.weights import Costs
from mlxnb.profiling.report import Environment

PLACE = Environment("a chip", "2 cores", 8_000_000_000, "an OS", {"mlxnb": "0"})
NOTHING = Costs()

# (module, what it offers, what the stand-in gives)
PARTS: list[tuple[str, str, Any]] = [
    ("machine.environment", "environment", lambda device, dtype: PLACE),
    ("model.weights", "costs", lambda model, *kept: NOTHING),
    ("judge.roofline", "roofline", lambda report: None),
    ("judge.compare", "comparisons", lambda report: ()),
    ("judge.rules", "findings", lambda report: ()),
    ("judge.recommend", "recommendations", lambda report: ()),
    ("judge.recommend", "other_models", lambda report: ()),
]


def stand_in(monkeypatch: Any) -> None:
    """Put the stand-ins in the place of the parts until the test is over."""
    for module, name, given in PARTS:
        set_part(monkeypatch, module, name, given)


def set_part(monkeypatch: Any, module: str, name: str, given: Any) -> None:
    """Put one in the place of what a module offers."""
    monkeypatch.setattr(importlib.import_module(f"mlxnb.profiling.{module}"), name, given)
