"""The playground without a browser: its buttons, its history, its two settings, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ipywidgets.widgets.widget import _instances as held

import mlxnb
from mlxnb.runtime import Engine
from tests.scripted import ScriptedBackend

from .conftest import until


@pytest.fixture
def script(scripted: tuple[Engine, ScriptedBackend], monkeypatch: pytest.MonkeyPatch) -> ScriptedBackend:
    """The script behind every answer of this test."""
    engine, backend = scripted
    monkeypatch.setattr(mlxnb, "engine", lambda: engine)
    monkeypatch.setenv("MLXNB_BACKEND", "scripted")
    return backend


def ask(playground: Any, prompt: str) -> None:
    playground.prompt.value = prompt
    playground.generate.click()


def test_it_asks_shows_and_remembers(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    playground = panel("playground")
    ask(playground, "Greet the world")
    until(lambda: not playground.running and bool(playground.runs))
    assert "Hello, world." in playground.answers[0].view.value
    assert "tok/s" in playground.answers[0].view.value
    assert script.requests[-1].messages[-1].content == "Greet the world"
    assert (playground.generate.disabled, playground.stop.disabled) == (False, True)
    assert "Greet the world" in repr(playground)
    assert "Hello, world." in repr(playground)


def test_stop_keeps_what_there_is(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    script.pieces, script.delay = [" word"] * 5000, 0.005
    playground = panel("playground")
    playground.forms[0].max_tokens.value = 5000
    ask(playground, "Talk")
    until(lambda: "word" in playground.answers[0].view.value)
    assert not playground.stop.disabled
    playground.stop.click()
    until(lambda: not playground.running and bool(playground.runs))
    assert playground.runs[-1].answer.finish_reason == "interrupted"
    assert "word" in playground.answers[0].view.value


def test_two_settings_are_asked_one_after_the_other(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    playground = panel("playground")
    playground.beside.value = True
    playground.forms[1].temperature.value = 0.7
    ask(playground, "Hi")
    until(lambda: not playground.running and len(playground.runs) == 2)
    assert [request.sampling.temperature for request in script.requests] == [0.0, 0.7]
    assert [run.asked.words for run in playground.runs] == ["pocket", "pocket, temperature 0.7"]
    playground.beside.value = False
    assert len(playground.forms) == len(playground.answers) == 1


def test_going_back_brings_prompt_setting_and_answer(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    playground = panel("playground")
    playground.forms[0].temperature.value = 0.3
    ask(playground, "First")
    until(lambda: len(playground.runs) == 1 and not playground.running)
    playground.forms[0].temperature.value = 1.1
    ask(playground, "Second")
    until(lambda: len(playground.runs) == 2 and not playground.running)
    playground.again.value = 1
    assert playground.prompt.value == "Second"  # choosing alone does nothing
    playground.put_back.click()
    assert playground.prompt.value == "First"
    assert playground.forms[0].temperature.value == 0.3


@pytest.mark.parametrize(
    ("prompt", "seed", "said"), [(" ", "", "The prompt is empty"), ("Hi", "x", "seed is &#x27;x&#x27;")]
)
def test_mistakes_are_told_and_nothing_is_asked(
    panel: Callable[[str], Any], script: ScriptedBackend, prompt: str, seed: str, said: str
) -> None:
    playground = panel("playground")
    playground.forms[0].seed.value = seed
    ask(playground, prompt)
    assert said in playground._notice.value
    assert script.requests == []


def test_an_answer_that_fails_says_why(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    playground = panel("playground")
    playground.forms[0].model.value = "no-such-model-<b>here</b>"
    ask(playground, "Hi")
    until(lambda: bool(playground.runs))
    shown = playground.answers[0].view.value
    assert 'role="alert"' in shown
    assert "<b>here" not in shown


def test_hostile_answers_are_text(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    script.pieces = ['<img src=x onerror="alert(1)">', "<script>alert(2)</script>", "\n\n**bold**"]
    playground = panel("playground")
    ask(playground, "<script>alert(3)</script>")
    until(lambda: bool(playground.runs))
    seen = playground.answers[0].view.value + playground._history.value + playground.picture()[0]
    assert "<img" not in seen
    assert "<script" not in seen
    assert "<strong>bold</strong>" in seen


def test_closing_ends_the_answer_and_every_widget(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    before = set(held)
    script.pieces, script.delay = [" word"] * 5000, 0.005
    playground = panel("playground")
    playground.forms[0].max_tokens.value = 5000
    playground.beside.value = True
    ask(playground, "Talk")
    job = playground.answers[0].job
    playground.close()
    until(lambda: job.settled)
    assert set(held) <= before
    playground.generate.click()
