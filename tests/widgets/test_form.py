"""The controls of a setting: the cell that they write asks what they ask."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
from mlxnb.backends.base import Backend
from mlxnb.decision import Absent
from mlxnb.errors import OptionError
from mlxnb.request import THINK
from mlxnb.runtime import Job
from mlxnb.widgets.asking.as_cell import body, trimmed
from mlxnb.widgets.asking.form import Form
from tests.magics.conftest import shell
from tests.scripted import ScriptedBackend

__all__ = ["shell"]


def backends(*names: str, absent: str = "") -> dict[str, Backend]:
    made = {name: ScriptedBackend(name=name) for name in names}
    if absent:
        made[absent] = ScriptedBackend(name=absent, decision=Absent(absent, "<b>x</b> not installed", "pip install x"))
    return made


# What IPython, a shell's quotes, options, templates and lines each have a meaning for.
SIGNS = (
    *"\"'\\#!?%$@~^&|;<>()[]{}*-=:.,", "{{", "}}", "{{{", "{%", "%}", "{#", "#}", "--", "--into x", "x <<", "%%time",
    "$x", "{x}", ">>> ", "... ", "...: ", "In [1]: ", "none", "auto", "\\n", "\\", " ", "  ", "\t", "é", "\U0001f642",
    "\u200b", "\u2028", "\x85", "\x0c", "\x00", "\r", "\n", "\n\n", "\n    ", "'''", '"""',
)  # fmt: skip
PIECE = st.one_of(st.sampled_from(SIGNS), st.text(st.characters(exclude_categories=["Cs"]), max_size=6))
LINES = st.lists(PIECE, max_size=8).map("".join)
LINE = LINES.map(lambda text: " ".join(text.split("\n")))
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 10),
        "top_p": st.floats(0, 1),
        "min_p": st.floats(0, 1),
        "top_k": st.integers(0, 1000),
        "repetition_penalty": st.floats(0.01, 10),
        "max_tokens": st.integers(1, 100_000),
        "seed": st.integers(0, 2**63 - 1).map(str),
        "think": st.sampled_from([*THINK, "12"]),
        "stop": LINE,
        "system": LINES,
    },
)
# What `%config MLXNB` may say, which a cell that leaves it out is asked with.
DEFAULTS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.5, 3.5]),
        "top_k": st.just(7),
        "seed": st.just(5),
        "think": st.sampled_from(["on", 9]),
        "system": st.sampled_from(["Be brief.", "{{ 'x' }}"]),
        "dtype": st.just("float32"),
        "quantize": st.just("int8"),
        "cache": st.just("off"),
        "draft": st.just("lookup"),
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(values=OPTIONS, prompt=LINES.filter(lambda text: text.strip()), defaults=DEFAULTS, blank=st.booleans())
@example(values={"stop": "-x", "system": "--"}, prompt=">>> 1 + 1\n2", defaults={}, blank=False)
@example(
    values={"system": "a\u2028b\nc"}, prompt="In [1]: x\n\n", defaults={"seed": 5, "system": "Be brief."}, blank=True
)
def test_the_cell_asks_what_the_controls_ask(
    shell: InteractiveShell,
    script: ScriptedBackend,
    values: dict[str, Any],
    prompt: str,
    defaults: dict[str, Any],
    blank: bool,
) -> None:
    config = next(each for each in shell.configurables if type(each).__name__ == "MLXNB")
    before = {name: getattr(config, name) for name in defaults}
    heard: list[Job] = []
    deafen = mlxnb.engine().hear(heard.append)
    try:
        for name, value in defaults.items():
            setattr(config, name, value)
        form = Form(mlxnb.engine().backends)
        form.backend.value = "scripted"
        for name, value in {**values, **({"seed": "", "think": "", "system": ""} if blank else {})}.items():
            getattr(form, name).value = value
        asked = form.request(trimmed(prompt))
        shell.run_cell(f"{form.line()}\n{body(trimmed(prompt))}", store_history=False)
    finally:
        deafen()
        for name, value in before.items():
            setattr(config, name, None if name == "quantize" else value)
    assert [job.request for job in heard] == [asked]


def test_a_setting_as_it_comes_needs_no_options() -> None:
    assert Form(backends("torch", "mlx")).line() == "%%generate"


def test_defaults_of_the_environment_are_where_the_controls_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXNB_TEMPERATURE", "3.5")
    monkeypatch.setenv("MLXNB_MAX_TOKENS", "77")
    form = Form(backends("torch"))
    assert (form.temperature.value, form.temperature.max, form.max_tokens.value) == (3.5, 10, 77)
    assert form.line() == "%%generate"


def test_going_back_to_a_request_puts_every_control() -> None:
    form, other = Form(backends("torch")), Form(backends("torch"))
    form.temperature.value, form.seed.value, form.think.value, form.stop.value = 0.7, "4", "9", "end"
    form.system.value = "Be brief."
    other.put(form.request("Hi"))
    assert other.options() == form.options()
    assert form.changed(other) == {}
    other.temperature.value = 0.2
    assert form.changed(other) == {"temperature": ("0.7", "0.2")}


@pytest.mark.parametrize(("name", "text"), [("seed", "four"), ("think", "maybe")])
def test_text_that_is_no_number_is_refused_by_name(name: str, text: str) -> None:
    form = Form(backends("torch"))
    getattr(form, name).value = text
    with pytest.raises(OptionError, match=rf"{name} is '{text}'"):
        form.request("Hi")


def test_a_backend_that_is_not_here_says_so_in_the_list_and_why_when_chosen() -> None:
    form = Form(backends("torch", absent="mlx"))
    assert ("mlx (not installed)", "mlx") in form.backend.options
    assert form.hindrance.layout.display == "none"
    form.backend.value = "mlx"
    assert form.hindrance.layout.display is None
    assert "&lt;b&gt;x&lt;/b&gt; not installed" in form.hindrance.value
    assert "pip install x" in form.hindrance.value


def test_a_backend_of_a_run_that_the_list_lacks_is_added() -> None:
    form, other = Form(backends("torch")), Form(backends("torch", "mlx"))
    other.backend.value = "mlx"
    form.put(other.request("Hi"))
    assert form.backend.value == "mlx"


def test_the_sliders_go_as_far_as_a_request_takes() -> None:
    form = Form(backends("torch"))
    assert [(control.min, control.max) for control in (form.temperature, form.top_p, form.min_p)] == [
        (0, 10),
        (0, 1),
        (0, 1),
    ]
    for name, low, high in (("repetition_penalty", 0.01, 10), ("max_tokens", 1, 2**31 - 1), ("top_k", 0, 2**31 - 1)):
        assert (getattr(form, name).min, getattr(form, name).max) == (low, high)


def test_what_a_default_says_and_no_control_has_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXNB_QUANTIZE", "int8")
    form = Form(backends("torch"))
    assert form.request("Hi").quantize == "int8"
    assert form.line() == "%%generate"
