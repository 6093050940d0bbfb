"""The monitor panel: tiles of what was seen, alerts on limits, an export."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mlxnb
from mlxnb.errors import OptionError
from mlxnb.widgets.monitor.tiles import FIGURES, SHOWN, tiles

from .conftest import until
from .test_limits import CALM


def texts(html: str) -> list[str]:
    """The words of each tile, in order."""
    return [re.sub(r"<[^>]+>", "|", tile) for tile in re.split('<div class="mlxnb-tile(?!s)', html)[1:]]


def test_limits_raise_alerts_log_them_and_take_them_back(panel: Callable[[str], Any]) -> None:
    monitor = panel("monitor")
    until(lambda: bool(monitor.vitals.moments))
    low = monitor.limits["Free memory"]
    low.value = "1000000"
    until(lambda: "over the limit: free memory" in monitor._line.value)
    assert "mlxnb-over" in monitor._tiles.value
    assert "below the limit of" in monitor._log.value
    assert "below the limit of" in monitor.picture()[1]
    low.value = "0"
    until(lambda: "no longer below" not in monitor._log.value and "over the limit" not in monitor._line.value)
    assert "below the limit of" in monitor._log.value
    low.value = "much"
    assert "The limit &#x27;Free memory below, GB&#x27; is &#x27;much&#x27;" in monitor._notice.value
    said = monitor._notice.value
    seen = len(monitor.vitals.moments)
    until(lambda: len(monitor.vitals.moments) > seen + 1)
    assert monitor._notice.value == said
    low.value = ""
    assert monitor._notice.value == ""


def test_what_a_machine_does_not_tell_is_said() -> None:
    told = texts(tiles(FIGURES, [CALM]))
    assert "not told by this machine" in told[-1]
    assert "no answer yet" in told[1]
    assert "no lookup yet" in told[6]
    warm = replace(CALM, pressure="serious")
    assert "not told by this machine; thermal pressure serious" in texts(tiles(FIGURES, [warm]))[-1]
    assert "61.5 °C" in texts(tiles(FIGURES, [replace(CALM, temperature=61.5)]))[-1]


def test_percentiles_are_told_with_their_number() -> None:
    few = replace(CALM, ttft_50=0.25, ttft_n=3)
    assert "|p95 from 20 answers on|" in texts(tiles(FIGURES, [few]))[1]
    many = replace(few, ttft_95=0.5, ttft_n=20)
    told = texts(tiles(FIGURES, [many]))[1]
    assert "p95 500 ms" in told
    assert "median of 20 answers" in told


def test_a_line_holds_so_many_moments_and_there_is_a_place_before_the_first() -> None:
    line = re.findall(r'points="([^"]*)"', tiles(FIGURES[:1], [CALM] * 500))
    assert [len(points.split()) for points in line] == [SHOWN]
    assert len(texts(tiles(FIGURES, ()))) == len(FIGURES)


def test_a_limit_on_what_is_not_told_cannot_be_set(panel: Callable[[str], Any]) -> None:
    monitor = panel("monitor")
    missing = any(note.startswith("temperature not told") for note in monitor.vitals.missing)
    assert monitor.limits["Temperature"].disabled == missing


def test_what_it_saw_is_exported(panel: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monitor = panel("monitor")
    until(lambda: len(monitor.vitals.moments) >= 2)
    for kind in ("csv", "json", "csv"):
        monitor.exports[kind].click()
        assert "written to" in monitor._notice.value
    first, second = sorted(tmp_path.glob("mlxnb-monitor-*.csv"))
    [data] = tmp_path.glob("mlxnb-monitor-*.json")
    kept = [float(row["at"]) for row in csv.DictReader(first.open())]
    assert len(kept) >= 2
    assert [row["at"] for row in json.loads(data.read_text())["moments"]][: len(kept)] == kept
    assert len(second.read_text().splitlines()) >= len(kept) + 1
    pytest.importorskip("pandas")
    assert len(monitor.frame()) >= len(kept)


def test_an_export_that_cannot_be_written_says_what_to_do(
    panel: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monitor = panel("monitor")
    gone.rmdir()
    monitor.exports["csv"].click()
    assert "cannot be written to" in monitor._notice.value
    assert "%cd" in monitor._notice.value


def test_a_new_engine_is_followed(panel: Callable[[str], Any]) -> None:
    monitor = panel("monitor")
    mlxnb.engine().close()
    until(lambda: monitor.vitals._engine is mlxnb.engine())
    assert not mlxnb.engine().closed
    assert len(mlxnb.engine()._ears) == 1


def test_why_it_looks_no_more_is_told(panel: Callable[[str], Any]) -> None:
    monitor = panel("monitor")
    monitor.vitals.failed = OSError("no more files")
    until(lambda: "no more files" in monitor._notice.value)


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


def test_its_picture_brings_what_draws_the_lines(panel: Callable[[str], Any]) -> None:
    monitor = panel("monitor")
    until(lambda: monitor._last is not None)
    page, text = monitor._picture()
    assert ".mlxnb-spark polyline{fill:none" in page
    assert '<polyline fill="none"' in page
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d · .* free", text)
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d · ", page)
    monitor.close()
    assert "free" in monitor.picture()[1]
