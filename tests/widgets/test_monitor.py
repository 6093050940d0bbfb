"""The monitor panel: tiles of what was seen, alerts on limits, an export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlxnb
from mlxnb.errors import OptionError

from .conftest import until


def test_limits_raise_alerts_and_take_them_back(panel: Callable[[str], Any]) -> None:
    monitor = panel("monitor")
    until(lambda: "free memory" in monitor._tiles.value)
    low = next(field for limit, field in monitor.limits.items() if limit.figure == "free memory")
    low.value = "1000000"
    until(lambda: "Free memory is over its limit since" in monitor._alerts.value)
    low.value = ""
    until(lambda: monitor._alerts.value == "")
    low.value = "much"
    until(lambda: "Memory below, GB is &#x27;much&#x27;" in monitor._notice.value)


def test_what_it_saw_is_exported(panel: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monitor = panel("monitor")
    until(lambda: len(monitor.vitals.moments) >= 2)
    monitor.export.click()
    [file] = tmp_path.glob("mlxnb-monitor-*.csv")
    assert len(file.read_text().splitlines()) >= 3
    assert "written to" in monitor._notice.value


def test_closing_ends_its_threads_and_opening_again_begins_anew(panel: Callable[[str], Any]) -> None:
    monitor = panel("monitor")
    assert panel("monitor") is monitor
    monitor.close()
    assert not monitor.vitals._thread.is_alive()
    assert mlxnb.engine()._ears == ()
    again = panel("monitor")
    assert again is not monitor
    assert repr(monitor) == "Monitor panel, closed"


def test_an_unknown_panel_is_refused_by_name() -> None:
    with pytest.raises(OptionError, match="no panel moniter") as error:
        mlxnb.panel("moniter")
    assert error.value.remedy == "Did you mean monitor?"
