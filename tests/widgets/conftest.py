"""What tests of panels share: panels that are closed afterwards, and a way to wait for what the beat shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

import mlxnb
from mlxnb import widgets
from mlxnb.widgets.frame.panel import Panel

SECONDS = 60.0


@pytest.fixture
def panel() -> Iterator[Callable[[str], Panel]]:
    """Opens a panel by its name; all are closed at the end."""
    yield mlxnb.panel
    for each in list(widgets._open.values()):
        each.close()


def until(true: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)
