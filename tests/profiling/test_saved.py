"""Reports as JSON: what comes back is equal, and what is damaged, foreign or too new is told in words."""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxnb.errors import MlxnbError, ReportError
from mlxnb.profiling.report import SCHEMA, Environment, Report
from mlxnb.profiling.report.saved import json_schema

from .whole_reports import EMPTY, full, single

FULL = full()
JSON = FULL.to_json()

finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.one_of(st.none(), st.booleans(), st.integers(), finite, st.text(max_size=20))
mappings = st.dictionaries(st.text(max_size=8), values, max_size=3)
st.register_type_strategy(float, finite)
# Parts that name others by index; the full report holds them.
NO_INDICES = {name: st.just(()) for name in ("cases", "runs", "insides", "findings", "stress", "comparisons")}
NO_INDICES["roofline"] = st.none()
NO_INDICES["limits"] = st.dictionaries(st.sampled_from(["ttft", "tpot", "total"]), finite)


@pytest.mark.parametrize("report", [FULL, EMPTY, single()], ids=["full", "empty", "single"])
def test_it_comes_back_equal(report: Report) -> None:
    again = Report.from_json(report.to_json())
    assert again == report
    assert again.to_json() == report.to_json()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(report=st.builds(Report, **NO_INDICES, schema=st.just(SCHEMA)))
def test_any_report_comes_back_equal(report: Report) -> None:
    assert Report.from_json(report.to_json()) == report


@settings(max_examples=60, deadline=None)
@given(settings=mappings, products=st.dictionaries(st.text(max_size=8), finite, max_size=3))
def test_every_kind_of_value_keeps_its_type(settings: dict[str, object], products: dict[str, float]) -> None:
    environment = Environment("M4", "4", 1, "x", {}, products=products, settings=settings)  # type: ignore[arg-type]
    again = Report.from_json(replace(EMPTY, environment=environment).to_json()).environment
    assert again == environment
    assert {k: type(v) for k, v in again.settings.items()} == {k: type(v) for k, v in settings.items()}


def test_it_is_json_that_any_program_reads_one_run_a_line() -> None:
    data = json.loads(JSON, parse_constant=pytest.fail)
    assert (data["format"], data["schema"], len(data["runs"])) == ("mlxnb profile", SCHEMA, len(FULL.runs))
    assert len(JSON.splitlines()) > len(FULL.runs) + len(FULL.samples)


def test_the_schema_says_what_each_field_holds() -> None:
    found = json_schema()
    assert {"environment", "began", "seconds", "warmup"} == set(found["required"])
    assert set(found["properties"]) == set(json.loads(JSON)) - {"format"}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_json_has_no_word_for_is_refused_by_name(bad: float) -> None:
    runs = list(FULL.runs)
    runs[2] = replace(runs[2], energy=bad)
    with pytest.raises(ReportError, match=re.escape(f"runs.2.energy of the report is {bad}")):
        replace(FULL, runs=tuple(runs)).to_json()


def test_a_name_that_utf8_cannot_hold_can_be_written() -> None:
    text = replace(EMPTY, notes=("caf\udce9", "日本 é")).to_json()
    text.encode("utf-8")
    assert Report.from_json(text).notes == ("caf?", "日本 é")


def changed(**fields: object) -> str:
    return json.dumps({**json.loads(JSON), **fields})


DAMAGED = {
    "cut": (JSON[: len(JSON) // 2], "is not whole JSON"),
    "empty": ("", "is not whole JSON"),
    "a list": ("[1, 2]", "is no report of a profile: it holds a list."),
    "foreign": ('{"cells": []}', 'it has no "format"'),
    "another program's": ('{"format": "chrome trace"}', "its \"format\" is 'chrome trace'"),
    "no schema": (changed(schema=None), 'its "schema" is None, not a whole number'),
    "schema true": (changed(schema=True), 'its "schema" is True'),
    "newer": (changed(schema=SCHEMA + 1), f"has schema {SCHEMA + 1}; this mlxnb reads up to {SCHEMA}."),
    "older": (changed(schema=0), "older than this mlxnb reads"),
    "text for a number": (changed(seconds="3.1"), "seconds: Input should be a valid number"),
    "missing": (changed(environment={"chip": "M4"}), "environment.cores: Field required (and 3 more)"),
    "without its runs": (json.dumps({k: v for k, v in json.loads(JSON).items() if k != "runs"}), 'it has no "runs".'),
    "unknown": (changed(colour="red"), "a field that this mlxnb does not know: colour."),
    "unknown inside": (changed(models=[{**json.loads(JSON)["models"][0], "x": 1}]), "does not know: models.0.x."),
    "NaN": (JSON.replace('"seconds": ', '"seconds": NaN, "was": ', 1), "NaN is no JSON number"),
    "beyond a float": (re.sub('"seconds": [0-9.]+', '"seconds": 1e999', JSON, count=1), "seconds is inf"),
    "no such case": (changed(comparisons=[{"ours": 99, "theirs": 0, "ratios": []}]), "comparisons.ours is 99, of 13"),
    "no such model": (changed(models=[]), "cases.model is 0, of 0"),
    "no such limit": (changed(limits={"speed": 1.0}), "a limit on 'speed', of ttft, tpot, total."),
    "nested": ("[" * 100_000, "is not whole JSON"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_wrong_is_said_with_the_file_and_what_to_do(name: str, tmp_path: Path) -> None:
    text, said = DAMAGED[name]
    file = tmp_path / "yesterday.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(MlxnbError, match=re.escape(said)) as caught:
        Report.from_json(file)
    assert caught.value.message.startswith(str(file))
    assert caught.value.remedy
    with pytest.raises(MlxnbError, match=re.escape(said)):
        Report.from_json(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"There is no report at .*gone\.json\."):
        Report.from_json(tmp_path / "gone.json")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    with pytest.raises(ReportError, match="not text in UTF-8"):
        Report.from_json(tmp_path / "picture.png")
    with pytest.raises(ReportError, match=r"no report at .*report\.json"):
        Report.from_json(tmp_path)
    with pytest.raises(ReportError, match=r"give its name as a pathlib\.Path"):
        Report.from_json("profiles/yesterday")


@settings(max_examples=80, deadline=None)
@given(at=st.integers(0, len(JSON) - 1), by=st.sampled_from(['"', "{", "]", "0", "x", "-", "\x00", ","]))
def test_one_changed_character_is_an_error_of_ours_or_another_report(at: int, by: str) -> None:
    with suppress(ReportError):
        assert Report.from_json(JSON[:at] + by + JSON[at + 1 :]).schema == SCHEMA
