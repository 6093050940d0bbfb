"""Who hears how far a batch is: shown at once, after a second, by a function, or not at all."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import mlxnb
from mlxnb.errors import EmptyPromptError, OptionError
from mlxnb.runtime import Engine, bar, batch
from mlxnb.runtime.batch import Progress
from tests.scripted import ScriptedBackend

PROMPTS = ["a", "b", "", "c"]


class Shown:
    """A bar that keeps what it is called with."""

    def __init__(self) -> None:
        self.seen: list[Progress] = []
        self.threads: set[int] = set()
        self.closed = 0

    def __call__(self, progress: Progress) -> None:
        self.threads.add(threading.get_ident())
        self.seen.append(progress)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def slow(scripted: tuple[Engine, ScriptedBackend]) -> Engine:
    engine, backend = scripted
    backend.delay = 0.05
    return engine


@pytest.fixture
def bars(slow: Engine) -> list[Shown]:
    made: list[Shown] = []
    slow.bar = lambda: made.append(Shown()) or made[-1]  # type: ignore[func-returns-value]
    return made


def ask(engine: Engine, **options: Any) -> list[Any]:
    return engine.batch(PROMPTS, backend="scripted", max_tokens=8, **options)


def test_progress_goes_from_nothing_to_all_of_it(slow: Engine, bars: list[Shown]) -> None:
    answers = ask(slow, progress=True)
    assert isinstance(answers[2], EmptyPromptError)
    (shown,) = bars
    assert shown.closed == 1
    assert shown.threads == {threading.get_ident()}
    assert [each.done for each in shown.seen] == sorted(each.done for each in shown.seen)
    assert shown.seen[0].done < 4
    assert shown.seen[-1][:4] == (4, 4, 12, 1)
    assert all(0 <= each.share <= 1 and each.total == 4 for each in shown.seen)
    halfway = [each for each in shown.seen if 0 < each.tokens < 12]
    assert all(each.tokens_per_second > 0 and each.seconds_left > 0 for each in halfway if each.seconds)
    assert halfway
    assert shown.seen[-1].seconds_left == 0


def test_the_clock_stops_at_the_end(slow: Engine) -> None:
    job = slow.submit_batch(PROMPTS, backend="scripted")
    job.results()
    assert job.progress().seconds > 0
    assert job.progress() == job.progress()


def test_a_bar_that_nobody_asked_for_comes_late(slow: Engine, bars: list[Shown], monkeypatch) -> None:
    ask(slow)
    assert bars == []
    monkeypatch.setattr(bar, "PATIENCE", 0.1)
    ask(slow)
    (shown,) = bars
    assert shown.seen
    assert shown.closed == 1


def test_nobody_hears_of_it(slow: Engine, bars: list[Shown], monkeypatch) -> None:
    monkeypatch.setattr(bar, "PATIENCE", 0.0)
    ask(slow, progress=False)
    assert bars == []
    slow.bar = None
    assert len(ask(slow, progress=True)) == 4


def test_a_function_hears_of_it_in_the_place_of_a_bar(slow: Engine, bars: list[Shown]) -> None:
    seen: list[Progress] = []
    ask(slow, progress=seen.append)
    assert seen[-1][:2] == (4, 4)
    assert len(seen) > 2
    assert bars == []


@pytest.mark.parametrize(("cost", "most"), [(0.0, 15), (0.001, 15), (0.04, 2)])
def test_looking_takes_a_small_part_of_the_time_however_many_rows_there_are(
    monkeypatch: pytest.MonkeyPatch, cost: float, most: int
) -> None:
    """By a clock of its own: what 20,000 rows cost to look at would else be taken from the engine 13 times a second."""
    clock, seen = [100.0], list[Progress]()
    monkeypatch.setattr(batch.time, "perf_counter", lambda: clock[0])

    def progress() -> Progress:
        clock[0] += cost
        return Progress(1, 2, 3)

    pace = batch.Pace(seen.append)
    while clock[0] < 110.0:
        pace(progress)
        clock[0] += 0.01
    assert 1 <= len(seen) / 10 <= most
    assert cost * len(seen) <= 0.6


def test_a_function_that_raises_ends_the_batch(slow: Engine) -> None:
    def enough(progress: Progress) -> None:
        if progress.tokens:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        ask(slow, progress=enough)
    assert slow.status().queued == 0
    assert len(ask(slow)) == 4


def test_a_batch_that_cannot_be_asked_leaves_no_bar(slow: Engine, bars: list[Shown]) -> None:
    with pytest.raises(OptionError):
        slow.batch("one string", progress=True)
    assert all(not shown.seen for shown in bars)


@pytest.mark.parametrize("wanted", ["yes", 1, 0, []])
def test_what_is_none_of_them_is_refused_by_name(slow: Engine, wanted: Any) -> None:
    with pytest.raises(OptionError, match=r"progress is .* It takes True, False, or a function"):
        ask(slow, progress=wanted)


def test_the_process_s_engine_has_the_bar_of_render() -> None:
    from mlxnb.render.batch import BatchBar

    made = mlxnb.engine()
    assert made.bar is not None
    assert isinstance(made.bar(), BatchBar)
