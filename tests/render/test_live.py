"""The live area: paced, safe at every step, and gone when the finished output is there."""

from __future__ import annotations

from typing import Any

import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.displaypub import CapturingDisplayPublisher

from mlxnb.render import mimebundle
from mlxnb.render.area import BLANK, Area
from mlxnb.render.formats import FORMATS
from mlxnb.render.live import LiveCell
from mlxnb.render.math import LEFT_ALONE
from mlxnb.render.pace import INTERVAL, Pace
from mlxnb.render.progress import Progress
from mlxnb.render.unfinished import Unfinished

from .allowed import CLASSES, faults
from .hostile import ALL
from .samples import ANSWER, make_result, thoughtful
from .test_result import foreign


class Publisher:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def publish(self, **call: Any) -> None:
        self.calls.append(call)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_protocol() -> None:
    publisher, result = Publisher(), make_result("Hi.")
    area = Area(publisher, "markdown", "pocket")
    area.start()
    area.show(Progress("H"))
    area.finish(result)
    start, show, final, blank = publisher.calls
    assert start["data"] == BLANK
    assert not start["update"]
    assert show["update"]
    assert "H" in show["data"]["text/html"]
    assert final == {"data": mimebundle(result), "metadata": {}, "transient": {}, "update": False}
    assert blank == {**start, "update": True}
    assert len({call["transient"]["display_id"] for call in (start, show, blank)}) == 1


def test_close_leaves_the_area_blank() -> None:
    publisher = Publisher()
    area = Area(publisher, "markdown", "pocket")
    area.start()
    area.show(Progress("H"))
    area.close()
    assert publisher.calls[-1] == {**publisher.calls[0], "update": True}


def test_two_areas_do_not_meet() -> None:
    publisher = Publisher()
    for _ in range(2):
        Area(publisher, "markdown", "pocket").start()
    first, second = (call["transient"]["display_id"] for call in publisher.calls)
    assert first != second


def test_inside_capture_only_the_finished_output_is_published() -> None:
    publisher = CapturingDisplayPublisher()
    area = Area(publisher, "markdown", "pocket")
    area.start()
    area.show(Progress("H"))
    area.finish(make_result("Hi."))
    assert [output["data"] for output in publisher.outputs] == [mimebundle(make_result("Hi."))]


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress(state="queued"), "queued"),
        (Progress(state="loading"), "loading"),
        (Progress(state="loading", doing="measuring torch"), "measuring torch"),
        (Progress(state="prefill", doing="measuring torch"), "prefill"),
        (Progress(state="prefill", prefill_done=512, prefill_total=2048), "prefill 512 of 2\u202f048 tokens"),
        (Progress(state="prefill"), "prefill"),
        (Progress(thinking="Hm", tokens=3), "thinking, 3 tokens"),
        (Progress("Hi", tokens=1), "generating, 1 token"),
        (Progress(), "generating"),
    ],
)
def test_words(progress: Progress, words: str) -> None:
    assert progress.words() == words
    html = Unfinished("markdown", "pocket").page(progress)
    assert f'<span class="mlxnb-figure">pocket model</span> · <span class="mlxnb-figure">{words}</span>' in html


def test_progress_line_fills() -> None:
    page = BeautifulSoup(Progress(state="prefill", prefill_done=1, prefill_total=4).line(), "html.parser")
    assert page.div is not None
    assert page.div["aria-valuenow"] == "1"
    assert page.div.div is not None
    assert page.div.div["style"] == "width:25.0%"
    assert Progress("Hi", prefill_done=4, prefill_total=4).line() == "<hr>"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ALL)
def test_hostile_text_while_it_comes(name: str, format: str) -> None:
    text = ALL[name]
    area = Unfinished(format, text)
    for end in {len(text) // 3, len(text) // 2, len(text) - 1, len(text)}:
        for progress in (Progress(text[:end], text), Progress("", text[:end])):
            page = BeautifulSoup(area.page(progress), "html.parser")
            assert faults(foreign(page), CLASSES) == []
            for part in page.select(".mlxnb-answer"):
                part.clear()
            assert {tag.name for tag in page.find_all(True)} <= {"div", "style", "details", "summary", "hr", "span"}


def test_maths_is_set_in_type_only_at_the_end() -> None:
    area = Unfinished("markdown", "pocket")
    assert "mathjax_process" not in area.page(Progress("$x^2$\n\nb\n\nc\n"))
    assert "mathjax_process" in mimebundle(make_result("$x^2$"))["text/html"]
    assert LEFT_ALONE in area.page(Progress("$x^2$"))


def test_pace_is_fifteen_a_second() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.due()
    pace.done()
    assert not pace.due()
    clock.now = INTERVAL * 0.99
    assert not pace.due()
    clock.now = INTERVAL
    assert pace.due()


def test_pace_may_be_slower() -> None:
    clock = Clock()
    pace = Pace(clock, interval=0.4)
    assert pace.due()
    pace.done()
    clock.now = 0.39
    assert not pace.due()
    clock.now = 0.4
    assert pace.due()


@given(st.lists(st.floats(0.0001, 2), min_size=2, max_size=20))
@settings(max_examples=50)
def test_drawing_takes_at_most_a_tenth_of_the_time(costs: list[float]) -> None:
    clock, drawing = Clock(), 0.0
    pace = Pace(clock)
    for cost in costs:
        while not pace.due():
            clock.now += 0.001
        clock.now += cost
        drawing += cost
        pace.done()
    while not pace.due():
        clock.now += 0.001
    assert drawing <= 0.1 * clock.now + 1e-6


def test_update_says_whether_it_drew(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    cell = LiveCell("text", "pocket", Pace(clock))
    cell.start()
    assert cell.update("a")
    assert not cell.update("ab")
    clock.now = 1
    assert cell.update("abc")
    assert capsys.readouterr().out == "abc"
    cell.finish(make_result("abcd"))
    out = capsys.readouterr().out
    assert out.startswith("d\n───")
    assert out.endswith(" · stop\n")
    assert "abc" not in out


@pytest.mark.parametrize("format", FORMATS)
def test_a_terminal_prints_nothing_twice(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    clock, result = Clock(), thoughtful()
    cell = LiveCell(format, "pocket", Pace(clock))
    cell.start()
    cell.update(state="loading")
    for end in range(0, len(ANSWER), 50):
        clock.now += 1
        cell.update(ANSWER[:end], "thinking")
    cell.finish(result)
    assert capsys.readouterr().out == mimebundle(result, format)["text/plain"] + "\n"


def test_a_terminal_never_gets_an_escape_sequence_of_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    text = "a\x1b[2J\x1b]0;title\x07b\r\nc\rd"
    clock = Clock()
    cell = LiveCell("text", "pocket", Pace(clock))
    for end in range(1, len(text) + 1):
        clock.now += 1
        cell.update(text[:end])
    cell.finish(make_result(text))
    assert capsys.readouterr().out.startswith("a[2J]0;titleb\nc\nd\n───")


def test_unknown_format() -> None:
    with pytest.raises(ValueError, match="markdown, text, code, json, html"):
        LiveCell("pdf")


def test_an_error_ends_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    cell = LiveCell("text", "pocket")
    cell.start()
    cell.update("half an ans")
    cell.close()
    assert capsys.readouterr().out == "half an ans\n"
