"""The profile panel: what is measured is shown live and as a report, an interrupt keeps what there is."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mlxnb
from mlxnb.profiling import Report
from mlxnb.profiling.report import Finding, Trial
from mlxnb.widgets.profile.report_view import drawn
from tests.scripted import ScriptedBackend

from .conftest import until

TRIAL = Finding(
    "decode-bound", 0, "decode_rate", 1.0, 2.0, "", "evidence", "cause", "remedy", Trial("fewer", {"max_tokens": 4})
)


@pytest.fixture
def profile(panel: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    made = panel("profile")
    made.runs.value, made.max_tokens.value = 2, 8
    for name, box in made.scenarios.items():
        box.value = name == "simple"
    return made


@pytest.fixture
def slow(profile: Any) -> Iterator[Any]:
    """A panel whose model takes minutes for an answer."""
    engine = mlxnb.engine()
    engine.backends["scripted"] = ScriptedBackend([" a"] * 100_000, delay=0.005)
    profile.backend.options = [*profile.backend.options, "scripted"]
    profile.backend.value, profile.max_tokens.value = "scripted", 100_000
    yield profile
    profile.close()
    engine.close()


def settled(profile: Any) -> None:
    until(lambda: not profile.work.running)


def measured(profile: Any) -> Any:
    profile.run.click()
    settled(profile)
    assert profile._notice.value == ""
    return profile


def threads(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def test_a_report_its_plots_and_its_files(profile: Any, tmp_path: Path) -> None:
    assert profile.save.disabled
    profile.run.click()
    assert "Token rate" in profile._live.value
    assert "report appears here" in profile.shown.first.value
    settled(profile)
    assert profile._notice.value == ""
    assert "Profile of pocket" in profile.shown.first.value
    assert "Profile of pocket" in profile.picture()[1]
    assert profile._live.value == ""
    assert mlxnb.engine()._ears == ()
    assert 'src="data:image/png;base64,iVBOR' in profile.picture()[0]
    profile.save.click()
    settled(profile)
    assert "Saved to profile: report.json, report.md and" in profile._notice.value
    assert Report.from_json(tmp_path / "profile" / "report.json").runs == profile.report.runs


def test_another_plot_is_drawn_beside_the_panel(profile: Any) -> None:
    measured(profile)
    first, names = profile.shown.image.value, [name for _, name in profile.shown.plot.options]
    assert profile.shown.plot.value == "roofline"
    assert len(profile.shown.made.images) == 1
    other = next(name for name in names if name != "roofline")
    profile.shown.plot.value = other
    until(lambda: profile.shown.image.value != first)
    assert profile.shown.image.value == profile.shown.made.images[other]
    assert re.search(r'alt="[^"]+"', profile.shown.image.value)


def test_a_report_that_is_there_is_not_replaced_unasked(profile: Any, tmp_path: Path) -> None:
    measured(profile)
    profile.save.click()
    settled(profile)
    kept = (tmp_path / "profile" / "report.json").read_text()
    measured(profile)
    profile.save.click()
    assert "There is a report in profile." in profile._notice.value
    assert (tmp_path / "profile" / "report.json").read_text() == kept
    profile.save.click()
    settled(profile)
    assert "Saved to profile" in profile._notice.value
    assert (tmp_path / "profile" / "report.json").read_text() != kept
    profile.folder.value = str(tmp_path / "profile" / "report.json")
    profile.save.click()
    settled(profile)
    assert "cannot be written" in profile._notice.value


def test_it_is_compared_with_an_earlier_one(profile: Any, tmp_path: Path) -> None:
    measured(profile)
    earlier = replace(profile.report, environment=replace(profile.report.environment, chip="Apple <b>M9</b>"))
    earlier.save(tmp_path / "before")
    profile.earlier.value = "before"
    profile.compare.click()
    settled(profile)
    assert profile._notice.value == ""
    assert "The earlier report is of another machine: chip Apple &lt;b&gt;M9" in profile._against.value
    assert "<b>M9" not in profile._against.value
    assert "earlier" in profile.picture()[0]
    for file, text, said in (
        ("nothing.json", None, "There is no report at nothing.json"),
        ("cut.json", profile.report.to_json()[:200], "is not whole JSON"),
        ("odd.json", json.dumps({"format": "mlxnb profile", "schema": 99}), "has schema 99"),
        ("", None, "No earlier report is named"),
    ):
        if text is not None:
            (tmp_path / file).write_text(text)
        profile.earlier.value = file
        profile.compare.click()
        settled(profile)
        assert 'role="alert"' in profile._notice.value
        assert said in profile._notice.value.replace("&#x27;", "'")
        assert profile._against.value == ""


def test_stop_keeps_what_was_measured(profile: Any) -> None:
    profile.runs.value, profile.max_tokens.value = 100, 64
    profile.run.click()
    until(lambda: profile.work._now[0] >= 3)
    profile.work.stop()
    settled(profile)
    assert "interrupt" in profile.report.partial
    assert profile.report.runs
    assert all(run.error is None for run in profile.report.runs)
    assert "Stopped: the report holds" in profile._notice.value


def test_stop_ends_a_request_that_would_take_minutes(slow: Any) -> None:
    slow.run.click()
    until(lambda: any(len(job.watch.token_times) > 5 for job in mlxnb.engine()._jobs))
    [job] = mlxnb.engine()._jobs
    slow.work.stop()
    settled(slow)
    assert len(job.watch.token_times) < 50_000
    assert "Profiling was stopped." in slow._notice.value
    assert slow.report is None
    assert not slow.run.disabled
    assert slow._live.value == ""


def test_stop_takes_no_request_of_others(slow: Any) -> None:
    other = mlxnb.engine().stream("Hi", backend="scripted", max_tokens=100_000, cache="off")
    until(lambda: len(other.watch.token_times) > 2)
    slow.run.click()
    time.sleep(0.3)
    slow.work.stop()
    seen = len(other.watch.token_times)
    until(lambda: len(other.watch.token_times) > seen + 10)
    other.cancel()
    settled(slow)


def test_closing_ends_what_was_measured(slow: Any) -> None:
    slow.run.click()
    until(lambda: any(job.watch.token_times for job in mlxnb.engine()._jobs))
    slow.close()
    until(lambda: not mlxnb.engine()._jobs and threads("mlxnb-panel-work") == 0)
    assert mlxnb.engine()._ears == ()
    assert threads("mlxnb-vitals") == 0


def test_two_clicks_at_once_begin_one_profile(slow: Any) -> None:
    slow.run.click()
    vitals = slow._vitals
    slow.run.click()
    slow._in_turn(1)
    assert slow._vitals is vitals
    assert threads("mlxnb-panel-work") == threads("mlxnb-vitals") == 1


def test_a_finding_with_a_remedy_is_tried(profile: Any) -> None:
    measured(profile)
    profile._found(drawn(replace(profile.report, findings=(TRIAL,))))
    assert "%profile_model --try" not in profile.shown.html()
    [button] = profile.shown.tries.children
    assert button.description == "Try 1: fewer"
    profile.backend.value = "onnx"  # a remedy is measured on what the report is of
    profile.max_tokens.value = 16
    button.click()
    assert "Token rate" in profile._live.value
    settled(profile)
    tried = profile.report.findings[0]
    assert tried.tried.pairs >= 6
    assert tried.was > 0
    assert tried.became > 0
    assert "tok/s before" in profile._notice.value
    assert "tok/s before" in profile.shown.first.value
    [again] = profile.shown.tries.children
    assert again.description == "Try again 1: fewer"


def test_nothing_chosen_or_no_model_is_told(profile: Any) -> None:
    profile.model.value = "no-such-model"
    profile.run.click()
    settled(profile)
    assert 'role="alert"' in profile._notice.value
    assert profile.report is None
    assert "Choose scenarios" in profile.shown.first.value
    profile.model.value = "  "
    profile.run.click()
    assert not profile.work.running
    assert "No model is named." in profile._notice.value
    profile.scenarios["simple"].value = False
    profile.run.click()
    assert not profile.work.running
    assert "No scenario is chosen." in profile._notice.value


def test_an_engine_that_fails_in_the_middle_is_told(slow: Any) -> None:
    mlxnb.engine().backends["scripted"].fail_after = 3
    slow.run.click()
    settled(slow)
    assert "Nothing could be measured" in slow._notice.value
    assert not slow.run.disabled


def test_without_matplotlib_there_is_a_report(profile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import util

    real = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name == "matplotlib" else real(name, *more))
    measured(profile)
    assert "pip install matplotlib" in profile.shown.image.value
    assert "Profile of pocket" in profile.shown.first.value
