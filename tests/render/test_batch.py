"""The bar of a batch: paced, gone when it is over, and one quiet line in its place."""

from __future__ import annotations

import io

import pytest
from bs4 import BeautifulSoup

from mlxnb.render import batch as bars
from mlxnb.render.batch import BatchBar, summary, words
from mlxnb.render.pace import Pace
from mlxnb.runtime.batch import Progress

from .test_live import Clock, Publisher

HALF = Progress(8, 16, 400, 1, 2.0, 0.5)
WHOLE = Progress(16, 16, 900, 1, 4.0, 1.0)


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Publisher:
    made = Publisher()
    monkeypatch.setattr(bars, "publisher", lambda: made)
    return made


def test_what_it_says() -> None:
    assert words(HALF) == "8 of 16 prompts · 1 failed · 400 tokens · 200 tok/s · about 2 s left"
    assert words(Progress(0, 3, 0)) == "0 of 3 prompts · waiting for the model"
    assert words(Progress(0, 3, 1, 0, 0.5, 0.1)) == "0 of 3 prompts · 1 token · 2 tok/s · about 4.5 s left"
    assert summary(WHOLE) == "16 of 16 prompts · 1 failed · 900 tokens · 225 tok/s · 4 s"
    assert summary(Progress(1, 1, 0, 0, 0.0, 1.0)) == "1 of 1 prompt · 0 tokens · 0 ms"


def test_one_display_that_is_updated_and_left_as_a_quiet_line(publisher: Publisher) -> None:
    clock = Clock()
    bar = BatchBar(Pace(clock))
    for step in range(31):
        clock.now = step / 100
        bar(HALF)
    bar(WHOLE)
    bar.close()
    first, *updates = publisher.calls
    assert not first["update"]
    assert all(call["update"] for call in updates)
    assert len({call["transient"]["display_id"] for call in publisher.calls}) == 1
    assert len(publisher.calls) <= 1 + 15 * 0.31 + 1
    page = BeautifulSoup(first["data"]["text/html"], "html.parser")
    line = page.select_one("[role=progressbar]")
    assert line is not None
    assert (line["aria-valuenow"], line["aria-valuemax"]) == ("8", "16")
    assert line.div is not None
    assert line.div["style"] == "width:50.0%"
    last = publisher.calls[-1]["data"]
    assert last["text/plain"] == summary(WHOLE)
    assert "progressbar" not in last["text/html"]
    assert summary(WHOLE) in BeautifulSoup(last["text/html"], "html.parser").text


def test_one_line_of_a_terminal_that_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("COLUMNS", "60")
    bar = BatchBar()
    bar(HALF)
    bar(WHOLE)  # a moment later: left out
    bar.close()
    shown = screen.getvalue().split("\r\x1b[K")
    assert shown[0] == ""
    assert shown[1].startswith("━" * 12 + "─" * 12 + " 8 of 16 prompts")
    assert len(shown[1]) == 59
    assert shown[2:] == [summary(WHOLE)[:59] + "\n"]


def test_a_file_or_a_pipe_gets_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    bar = BatchBar()
    bar(HALF)
    bar.close()
    assert capsys.readouterr() == ("", "")


def test_what_never_began_leaves_nothing(publisher: Publisher) -> None:
    BatchBar().close()
    assert publisher.calls == []
