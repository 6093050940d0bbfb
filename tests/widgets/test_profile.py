"""The profile panel: what is measured is shown live and as a report, an interrupt keeps what there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlxnb
from mlxnb.profiling import Report
from mlxnb.profiling.report import Trial

from .conftest import until


@pytest.fixture
def profile(panel: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    made = panel("profile")
    made.runs.value, made.max_tokens.value = 2, 8
    for name, box in made.scenarios.items():
        box.value = name == "simple"
    return made


def settled(profile: Any) -> None:
    until(lambda: not profile.work.running)


def test_a_report_its_plots_and_its_files(profile: Any, tmp_path: Path) -> None:
    assert profile.save.disabled
    profile.run.click()
    until(lambda: "token rate" in profile._live.value)
    settled(profile)
    assert profile._notice.value == ""
    assert "Profile of pocket" in profile._page.value
    assert "Profile of pocket" in profile.picture()[1]
    assert profile._live.value == ""
    assert mlxnb.engine()._ears == ()
    assert profile._image.value[:4] == b"\x89PNG"
    profile.save.click()
    settled(profile)
    assert Report.from_json(tmp_path / "profile" / "report.json").runs == profile.report.runs
    profile.earlier.value = "profile/report.json"
    profile.compare.click()
    assert profile._notice.value == ""
    assert "earlier" in profile._against.value
    profile.earlier.value = "nothing.json"
    profile.compare.click()
    assert 'role="alert"' in profile._notice.value


def test_stop_keeps_what_was_measured(profile: Any) -> None:
    profile.runs.value, profile.max_tokens.value = 100, 64
    profile.run.click()
    until(lambda: profile.work._now[0] >= 3)
    profile.work.stop()
    settled(profile)
    assert profile.report.partial is not None
    assert "interrupt" in profile.report.partial
    assert profile.report.runs


def test_a_finding_with_a_remedy_is_tried(profile: Any) -> None:
    from dataclasses import replace

    profile.run.click()
    settled(profile)
    from mlxnb.profiling.report import Finding

    finding = Finding(
        "decode-bound", 0, "decode_rate", 1.0, 2.0, "", "evidence", "cause", "remedy", Trial("fewer", {"max_tokens": 4})
    )
    profile._found(replace(profile.report, findings=(finding,)))
    [button] = profile._tries.children
    assert button.description == "Try 1: fewer"
    button.click()
    settled(profile)
    assert profile.report.findings[0].tried is not None or 'role="alert"' in profile._notice.value


def test_nothing_chosen_or_no_model_is_told(profile: Any) -> None:
    profile.model.value = "no-such-model"
    profile.run.click()
    settled(profile)
    assert 'role="alert"' in profile._notice.value
    assert profile.report is None
