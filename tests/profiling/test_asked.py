"""What a front passes on to a profile: options by name, files, and the line that says how far it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxnb.errors import MlxnbError, OptionError
from mlxnb.profiling.files import check_writable, read_earlier, read_prompts
from mlxnb.profiling.profile import Progress
from mlxnb.profiling.shown import shown, words


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
