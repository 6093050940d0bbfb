"""What a front passes on to a profile: options by name, files, and the line that says how far it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlxnb.errors import MlxnbError, OptionError, ReportError
from mlxnb.hardware import Speed, Speeds
from mlxnb.profiling import Report
from mlxnb.profiling.asked import ELSEWHERE, asked
from mlxnb.profiling.files import check_writable, read_earlier, read_prompts, write_json
from mlxnb.profiling.profile import Progress
from mlxnb.profiling.shown import shown, words
from mlxnb.runtime import Engine
from tests.scripted import ScriptedBackend

from .whole_reports import single


def test_prompts_in_a_file_are_parted_by_dashes(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"What is zip?\r\n---\r\nOne\n\ntwo --- three\n---\n\n")
    assert read_prompts(str(file)) == ("What is zip?", "One\n\ntwo --- three")
    file.write_text("\n---\n \n")
    with pytest.raises(OptionError, match=r"is empty\. Write at least one prompt into it"):
        read_prompts(str(file))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(OptionError, match="is not UTF-8"):
        read_prompts(str(file))
    with pytest.raises(OptionError, match="cannot be read"):
        read_prompts(str(tmp_path / "none.txt"))


def test_a_place_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="cannot be written to"):
        check_writable(str(tmp_path / "file" / "below"))
    with pytest.raises(OptionError, match="that is a folder"):
        check_writable(file=str(tmp_path))
    check_writable(str(tmp_path / "new" / "folder"), str(tmp_path / "other" / "report.json"))
    assert not (tmp_path / "new").exists()


def test_a_disk_that_takes_no_files_is_told_before_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its permissions may allow it all the same."""

    def full(**given: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(OptionError, match=r"takes no files \(No space left on device\)\. Name another place"):
        check_writable(str(tmp_path / "new"))


def test_a_file_of_json_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "deep" / "yesterday.json"
    write_json(single(), str(file))
    assert Report.from_json(file) == single()
    before = file.read_bytes()

    def crash(one: object, other: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", crash)
    with pytest.raises(ReportError, match="No space left on device"):
        write_json(single(rounds=2), str(file))
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["yesterday.json"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_or_a_link_is_written_into_and_stays(tmp_path: Path) -> None:
    """As /dev/stdout is one: a file that takes its place would be there for every program."""
    (tmp_path / "target.json").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "target.json")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        for name in ("link", "pipe"):
            check_writable(file=str(tmp_path / name))
            write_json(single(rounds=2), str(tmp_path / name))
        assert os.read(reader, 20).startswith(b"{")
    finally:
        os.close(reader)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "pipe").is_fifo()
    assert Report.from_json(tmp_path / "target.json") == single(rounds=2)


def test_options_go_by_their_names_on_a_line_too(
    scripted: tuple[Engine, ScriptedBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = scripted
    known = Speeds((Speed("torch", "cpu", 2e10, {"float32": 1e11}),), at=0.0)
    monkeypatch.setattr("mlxnb.hardware.speeds", lambda store: known)
    monkeypatch.setattr("mlxnb.profiling.machine.environment._measured_here", {})
    given = {"runs": 1, "warmup": 0, "max_tokens": 2, "inside": False, "backend": "scripted"}
    report = asked(engine, ["pocket"], {**given, "scenario": "simple", "slo": "ttft=1"}, progress=False)
    assert (report.cases[0].scenario, dict(report.limits)) == ("simple", {"ttft": 1.0})
    with pytest.raises(OptionError, match="scenario and scenarios are the same option"):
        asked(engine, ["pocket"], {**given, "scenario": "simple", "scenarios": "code"})


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_what_goes_otherwise_in_python_says_how(scripted: tuple[Engine, ScriptedBackend], name: str) -> None:
    engine, backend = scripted
    with pytest.raises(OptionError, match=f"mlxnb.profile takes no {name}") as caught:
        asked(engine, ["pocket"], {name: "x"})
    assert caught.value.remedy == ELSEWHERE[name]
    assert backend.requests == []


def test_a_report_that_is_none_says_so(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    for path in (tmp_path, tmp_path / "report.json", tmp_path / "nowhere.json"):
        with pytest.raises(MlxnbError):
            read_earlier(str(path))


def test_the_line_tells_what_goes_on_and_what_is_left() -> None:
    assert words(Progress("medium, run 2 of 5", 7, 20, 12.3)) == "medium, run 2 of 5 · about 12 s left"
    assert words(Progress("loading pocket", 0, 20, None)) == "loading pocket"


def test_a_caller_may_hear_of_progress_or_not() -> None:
    heard: list[Progress] = []
    with shown("Profiling", heard.append) as hear:
        assert hear is not None
        hear(Progress("simple", 1, 2, None))
    assert [each.done for each in heard] == [1]
    with shown("Profiling", False) as hear:
        assert hear is None
    with pytest.raises(OptionError, match="progress is 'yes'"), shown("Profiling", "yes"):  # type: ignore[arg-type]
        pass
