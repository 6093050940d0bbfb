"""The playground without a browser: its buttons, its history, its two settings, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from ipywidgets.widgets.widget import _instances as held

import mlxnb
from mlxnb.errors import EngineClosedError
from mlxnb.models.entry import Entry
from mlxnb.runtime import Engine
from tests.magics.conftest import shell
from tests.scripted import ScriptedBackend, ScriptedModel

from .conftest import until

__all__ = ["shell"]


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


def done(playground: Any, runs: int) -> None:
    until(lambda: not playground.running and len(playground.runs) >= runs)


def test_models_of_this_machine_are_offered_and_any_name_can_be_typed(
    panel: Callable[[str], Any], script: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = [Entry("pocket", "", "safetensors"), Entry("<i>own</i>", "", "gguf"), Entry("bad", "", "gguf", problem="x")]
    let = Event()

    def inventory() -> list[Entry]:
        let.wait(60)
        return here

    monkeypatch.setattr(mlxnb.engine(), "inventory", inventory)
    playground = panel("playground")  # does not wait for them
    assert playground.forms[0].model.options == ("pocket",)
    let.set()
    until(lambda: playground.forms[0].model.options == ("pocket", "<i>own</i>"))
    playground.beside.value = True
    assert playground.forms[1].model.options == ("pocket", "<i>own</i>")
    playground.forms[0].model.value = "another"
    assert playground.forms[0].request("Hi").model == "another"


def test_a_list_of_models_that_cannot_be_read_is_told(
    panel: Callable[[str], Any], script: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlxnb.engine(), "inventory", lambda: 1 / 0)
    playground = panel("playground")
    until(lambda: "division by zero" in playground._notice.value)
    ask(playground, "Hi")
    done(playground, 1)


def test_two_settings_say_in_what_they_differ_and_how_far_their_answers_do(
    panel: Callable[[str], Any], script: ScriptedBackend
) -> None:
    playground = panel("playground")
    playground.beside.value = True
    assert "Both settings are the same" in playground._differs.value
    playground.forms[1].seed.value = "4"
    playground.forms[1].temperature.value = 0.7
    assert "<b>temperature</b> 0 | 0.7" in playground._differs.value
    assert "<b>seed</b> none | 4" in playground._differs.value
    script.answers = [["one two three"], ["one two <b>four</b>"]]
    ask(playground, "Hi")
    done(playground, 2)
    assert "<del>three</del>" in playground._compared.value
    assert "<ins>&lt;b&gt;four" in playground._compared.value
    assert [request.cache for request in script.requests] == ["off", "off"]  # figures of a cached answer are none
    assert "--seed 4" in playground.cell(playground.forms[1])
    assert playground.copy_second.layout.display is None
    playground.beside.value = False
    assert playground._differs.value == playground._compared.value == ""
    assert "one two three" in playground.answers[0].view.value  # which stays


def test_the_history_tells_the_setting_as_it_was_when_it_was_asked(
    panel: Callable[[str], Any], script: ScriptedBackend
) -> None:
    script.delay = 0.05
    playground = panel("playground")
    playground.forms[0].temperature.value = 0.3
    ask(playground, "Hi")
    playground.forms[0].temperature.value = 1.2
    done(playground, 1)
    assert playground.runs[0].asked.words == "pocket, temperature 0.3"
    assert "--temperature 0.3" in playground.picture()[1]


def test_an_answer_that_was_kept_has_no_rate_of_its_own(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    playground = panel("playground")
    ask(playground, "Hi")
    done(playground, 1)
    run = playground.runs[0]
    assert run.row()[5] is not None
    again = replace(run, answer=replace(run.answer, cached=True)).row()
    assert (again[5], again[6], again[-1]) == (None, None, "stop, cached")


def test_a_run_of_the_second_setting_goes_back_there(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    playground = panel("playground")
    playground.beside.value = True
    playground.forms[1].seed.value = "9"
    ask(playground, "Hi")
    done(playground, 2)
    playground.forms[1].seed.value = "1"
    playground.again.value = 2
    playground.put_back.click()
    assert [form.seed.value for form in playground.forms] == ["", "9"]
    playground.beside.value = False
    playground.put_back.click()  # the same run once more, now with one place
    assert playground.forms[0].seed.value == "9"


def test_what_cannot_be_queued_or_drawn_leaves_no_panel_waiting(
    panel: Callable[[str], Any], script: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    playground, engine = panel("playground"), mlxnb.engine()
    playground.beside.value = True
    submit, asked = engine.submit, list[Any]()

    def once(request: Any) -> Any:
        if asked:
            raise EngineClosedError("The engine is closed.", "Open it.")
        asked.append(submit(request))
        return asked[0]

    monkeypatch.setattr(engine, "submit", once)
    ask(playground, "Hi")
    until(lambda: "The engine is closed" in playground._notice.value)
    assert asked[0].settled
    assert (playground.running, playground.generate.disabled) == (False, False)
    monkeypatch.setattr(engine, "submit", submit)
    monkeypatch.setattr(playground.answers[1], "look", lambda: 1 / 0)
    monkeypatch.setattr(playground.answers[1], "follow", lambda job: setattr(playground.answers[1], "job", job))
    ask(playground, "Hi")
    until(lambda: "division by zero" in playground._notice.value)
    assert (playground.running, playground.generate.disabled) == (False, False)


def test_a_setting_that_cannot_be_asked_is_not_copied(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    playground = panel("playground")
    playground.copy.click()
    assert "The prompt is empty" in playground._notice.value
    playground.prompt.value, playground.forms[0].seed.value = "Hi", "x"
    playground.copy.click()
    assert "seed is" in playground._notice.value
    assert playground._cell.value == ""
    playground.forms[0].seed.value = ""
    playground.copy.click()
    assert "%%generate\nHi" in playground._cell.value


def test_the_copied_cell_gives_the_answer_that_the_panel_gave(
    panel: Callable[[str], Any], shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(caching=False)
    monkeypatch.setattr(mlxnb, "engine", lambda: engine)
    monkeypatch.setenv("MLXNB_BACKEND", "torch")
    playground = panel("playground")
    playground.forms[0].repetition_penalty.value = 1.3
    playground.forms[0].max_tokens.value = 40
    playground.forms[0].system.value = 'Say "{{ hi }}"\nin two lines.'
    ask(playground, "\n>>> from collections import Counter  # {{ x }} 'y\n>>> Counter('aab')\nWhat is that?!\\ \n\n")
    done(playground, 1)
    said = shell.run_cell(playground.runs[0].asked.cell).result
    assert said.text == playground.runs[0].answer.text
    assert said.tokens == playground.runs[0].answer.tokens
    engine.close()


def test_what_the_backend_did_not_take_is_said_under_the_answer(
    panel: Callable[[str], Any], script: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = ScriptedModel.stream

    def noted(model: ScriptedModel, request: Any, watch: Any) -> Any:
        watch.notes.append("top_k 5 not used: <b>it</b> takes none")
        return stream(model, request, watch)

    monkeypatch.setattr(ScriptedModel, "stream", noted)
    playground = panel("playground")
    ask(playground, "Hi")
    done(playground, 1)
    assert "top_k 5 not used: &lt;b&gt;it" in playground.answers[0].view.value


def test_the_second_setting_is_asked_when_the_first_has_its_answer(
    panel: Callable[[str], Any], script: ScriptedBackend
) -> None:
    script.delay = 0.05
    playground = panel("playground")
    playground.beside.value = True
    playground.forms[1].seed.value = "1"
    ask(playground, "Hi")
    done(playground, 2)
    first, second = (run.answer.timings for run in playground.runs)
    assert second.accepted >= first.token_times[-1]  # so that no part of the first answer is in its first token
    assert [box.view.value.count("setting</div>") for box in playground.answers] == [1, 1]


def test_stop_asks_no_second_setting(panel: Callable[[str], Any], script: ScriptedBackend) -> None:
    script.pieces, script.delay = [" word"] * 5000, 0.005
    playground = panel("playground")
    playground.beside.value = True
    playground.forms[0].max_tokens.value = 5000
    ask(playground, "Hi")
    until(lambda: "word" in playground.answers[0].view.value)
    playground.stop.click()
    until(lambda: not playground.running)
    assert len(playground.runs) == len(script.requests) == 1
