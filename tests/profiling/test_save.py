"""A report in a folder: everything is there, readable again, and a failure leaves nothing half written."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from mlxnb.errors import ReportError
from mlxnb.profiling.report import Report

from .whole_reports import full, single, turns

SMALL = turns(speed=1.2)


def test_json_markdown_and_a_picture_for_each_plot(tmp_path: Path) -> None:
    written = SMALL.save(tmp_path / "made" / "here")
    assert [path.name for path in written] == [
        "report.json", "report.md", "first-token.png", "gaps.png", "sweep-kv-bits.png",
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "made" / "here").iterdir()) == sorted(p.name for p in written)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written[2:])
    assert Report.from_json(tmp_path / "made" / "here") == SMALL
    text = written[1].read_text(encoding="utf-8")
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (written[1].parent / name).exists()
    assert text.count("![") == 3


def test_a_second_report_takes_the_place_of_the_first(tmp_path: Path) -> None:
    SMALL.save(tmp_path)
    (tmp_path / "mine.png").write_bytes(b"a picture of my own")
    written = single().save(str(tmp_path))
    assert Report.from_json(tmp_path) == single()
    assert {path.name for path in tmp_path.iterdir()} == {*(path.name for path in written), "mine.png"}


def test_files_allow_what_new_files_allow(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        [first, *_] = single().save(tmp_path)
    finally:
        os.umask(mask)
    assert first.stat().st_mode & 0o777 == 0o644


def test_a_folder_that_cannot_be_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(ReportError, match=r"cannot be written to .*taken.*: .* Name another folder\."):
        single().save(tmp_path / "taken")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    single().save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(ReportError, match=r"report\.json: No space left on device\."):
        SMALL.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_matplotlib_it_is_saved_without_pictures_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    with pytest.warns(RuntimeWarning, match="saved without pictures"):
        written = single().save(tmp_path)
    assert [path.name for path in written] == ["report.json", "report.md"]


def test_a_field_of_an_odd_name_is_a_plain_file(tmp_path: Path) -> None:
    cases = tuple(replace(case, varied={"../up (x)": i}) for i, case in enumerate(SMALL.cases))
    written = replace(SMALL, cases=cases).save(tmp_path)
    assert written[-1].name == "sweep----up--x-.png"
    assert written[-1].parent == tmp_path


def test_a_figure_that_is_no_number_is_told_before_anything_is_written(tmp_path: Path) -> None:
    report = full()
    broken = replace(report, seconds=float("nan"))
    with pytest.raises(ReportError, match="seconds of the report is nan"):
        broken.save(tmp_path / "new")
    assert not (tmp_path / "new").exists()
