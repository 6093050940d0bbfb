"""The controls of a setting: the cell that they write asks what they ask."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell

from mlxnb.errors import OptionError
from mlxnb.request import THINK
from mlxnb.widgets.form import Form, body
from tests.magics.conftest import script, shell
from tests.scripted import ScriptedBackend

__all__ = ["script", "shell"]

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=20).map(str.strip)
LINES = st.lists(TEXT, max_size=3).map("\n".join).map(str.strip)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "min_p": st.floats(0, 1),
        "top_k": st.integers(0, 1000),
        "repetition_penalty": st.floats(0.01, 10),
        "max_tokens": st.integers(1, 100_000),
        "seed": st.integers(0, 2**63 - 1).map(str),
        "think": st.sampled_from([*THINK, "12"]),
        "stop": TEXT.filter(lambda text: "\\" not in text),
        "system": LINES,
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(values=OPTIONS, prompt=LINES.filter(bool))
def test_the_cell_asks_what_the_controls_ask(
    shell: InteractiveShell, script: ScriptedBackend, values: dict[str, Any], prompt: str
) -> None:
    form = Form(["scripted"])
    form.backend.value = "scripted"
    for name, value in values.items():
        getattr(form, name).value = value
    asked = form.request(prompt)
    shell.run_cell(f"{form.line()} --into result --cache off\n{body(prompt)}", store_history=False)
    heard = script.requests[-1]
    assert heard.messages == asked.messages
    assert (heard.sampling, heard.max_tokens, heard.think, heard.stop) == (
        asked.sampling,
        asked.max_tokens,
        asked.think,
        asked.stop,
    )


def test_a_setting_as_it_comes_needs_no_options() -> None:
    assert Form(["torch", "mlx"]).line() == "%%generate"


def test_defaults_of_the_environment_are_where_the_controls_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXNB_TEMPERATURE", "3.5")
    monkeypatch.setenv("MLXNB_MAX_TOKENS", "77")
    form = Form(["torch"])
    assert (form.temperature.value, form.temperature.max, form.max_tokens.value) == (3.5, 3.5, 77)
    assert form.line() == "%%generate"


def test_going_back_to_a_request_puts_every_control() -> None:
    form, other = Form(["torch"]), Form(["torch"])
    form.temperature.value, form.seed.value, form.think.value, form.stop.value = 0.7, "4", "9", "end"
    form.system.value = "Be brief."
    other.put(form.request("Hi"))
    assert other.options() == form.options()
    assert form.changed(other) == ""
    other.temperature.value = 0.2
    assert form.changed(other) == "temperature 0.7"


@pytest.mark.parametrize(("name", "text"), [("seed", "four"), ("think", "maybe")])
def test_text_that_is_no_number_is_refused_by_name(name: str, text: str) -> None:
    form = Form(["torch"])
    getattr(form, name).value = text
    with pytest.raises(OptionError, match=rf"{name} is '{text}'"):
        form.request("Hi")
