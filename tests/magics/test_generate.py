"""`%generate` and `%%generate` in a real shell, over a scripted backend."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
from mlxnb.errors import EmptyAnswerError, MlxnbError, OptionError
from mlxnb.result import Result
from tests.scripted import ScriptedBackend

pytestmark = pytest.mark.usefixtures("script")


def value(shell: InteractiveShell, cell: str) -> Any:
    """What a cell gives back; a cell that fails raises."""
    ran = shell.run_cell(cell, store_history=True)
    ran.raise_error()
    return ran.result


def test_the_body_is_the_prompt(shell: InteractiveShell, script: ScriptedBackend) -> None:
    result = value(shell, "%%generate\nWhat is {x}\nand $y?\n")
    assert isinstance(result, Result)
    assert result.text == "Hello, world."
    assert [(m.role, m.content) for m in script.requests[0].messages] == [("user", "What is {x}\nand $y?")]


def test_the_rest_of_the_line_is_the_prompt(shell: InteractiveShell, script: ScriptedBackend) -> None:
    value(shell, "%generate --max-tokens 2 What's in {x} and $y?")
    assert script.requests[0].messages[0].content == "What's in {x} and $y?"
    assert script.requests[0].max_tokens == 2


def test_options_reach_the_request(shell: InteractiveShell, script: ScriptedBackend) -> None:
    line = "--temperature .5 --top-p 0.9 --top_k 5 --min-p 0.1 --repetition-penalty 1.1 --seed 7 --max_tokens 9"
    value(shell, rf"%generate {line} --stop '\n' --stop END --strict --system 'Be brief.' Hi")
    request, sampling = script.requests[0], script.requests[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 0.9, 5, 0.1)
    assert (sampling.repetition_penalty, sampling.seed, request.max_tokens) == (1.1, 7, 9)
    assert request.stop == ("\n", "END")
    assert request.strict
    assert [m.role for m in request.messages] == ["system", "user"]


def test_a_draft_is_asked_for(shell: InteractiveShell, script: ScriptedBackend) -> None:
    result = value(shell, "%generate --draft lookup --draft_tokens 3 Hello")
    assert (script.requests[0].draft, script.requests[0].draft_tokens) == ("lookup", 3)
    assert "draft lookup not used: the scripted backend decodes by itself" in result.provenance.notes
    with pytest.raises(OptionError, match="draft_tokens is 3 without a draft"):
        value(shell, "%generate --draft-tokens 3 Hello")


def test_raw_sends_the_prompt_as_it_is(shell: InteractiveShell, script: ScriptedBackend) -> None:
    value(shell, "%%generate --raw\n\n  def f():\n\n")
    assert script.requests[0].prompt == "\n  def f():\n"


@pytest.mark.parametrize(
    "cell", ["%%generate r <<\nHi", "%generate r << Hi", "%generate --into r Hi", "r = %generate Hi"]
)
def test_the_result_goes_into_a_variable(shell: InteractiveShell, cell: str) -> None:
    value(shell, cell)
    assert shell.user_ns["r"].text == "Hello, world."


def test_the_answer_is_shown_once_and_kept_as_out(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    result = value(shell, "%generate Hi")
    assert capsys.readouterr().out.count("Hello, world.") == 1
    assert shell.user_ns["_"] is result
    assert shell.user_ns["Out"][1] is result
    value(shell, "_")
    assert capsys.readouterr().out.count("Hello, world.") == 1
    value(shell, "display(_)")
    assert capsys.readouterr().out.count("Hello, world.") == 1


def test_other_values_are_shown_as_ever(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    value(shell, "r = %generate Hi\n6 * 7")
    assert "42" in capsys.readouterr().out
    assert shell.user_ns["_"] == 42


def test_a_loop_shows_each_answer(
    shell: InteractiveShell, script: ScriptedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    value(shell, "for name in ['a', 'b', 'c']:\n    %generate What is {{ name }}?")
    assert [request.messages[0].content for request in script.requests] == [f"What is {name}?" for name in "abc"]
    assert capsys.readouterr().out.count("Hello, world.") == 3


def test_a_functions_own_variables_are_seen(shell: InteractiveShell, script: ScriptedBackend) -> None:
    value(shell, "def ask(thing):\n    return get_ipython().run_line_magic('generate', 'About {{ thing }}')\nask('x')")
    assert script.requests[0].messages[0].content == "About x"


def test_quiet_shows_nothing(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    result = value(shell, "%generate --quiet Hi")
    assert capsys.readouterr().out == ""
    assert result.text == shell.user_ns["_"].text == "Hello, world."


def test_no_stream_shows_the_answer_once(
    shell: InteractiveShell, script: ScriptedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    script.delay = 0.1
    seen: list[str] = []
    threading.Timer(0.25, lambda: seen.append(capsys.readouterr().out)).start()
    value(shell, "%generate --no-stream Hi")
    assert seen == [""]
    assert capsys.readouterr().out.count("Hello, world.") == 1


def test_templates_are_filled_in_prompt_and_options(shell: InteractiveShell, script: ScriptedBackend) -> None:
    shell.user_ns.update(n=3, style="brief")
    value(shell, "%%generate --max-tokens {{ n }} --system 'Be {{ style }}.'\nCount to {{ n + 1 }}.")
    assert script.requests[0].max_tokens == 3
    assert [m.content for m in script.requests[0].messages] == ["Be brief.", "Count to 4."]


def test_no_interpolate_leaves_templates(shell: InteractiveShell, script: ScriptedBackend) -> None:
    value(shell, "%%generate --no-interpolate\nWhat does {{ x }} mean in {% raw %}?")
    assert script.requests[0].messages[0].content == "What does {{ x }} mean in {% raw %}?"


def test_a_conversation_goes_on(shell: InteractiveShell, script: ScriptedBackend) -> None:
    value(shell, "%%generate --chat --system Brief.\none")
    value(shell, "%generate --chat two")
    value(shell, "%generate --chat=other three")
    value(shell, "%generate --chat --system Long. four")
    assert [[m.content for m in request.messages] for request in script.requests] == [
        ["Brief.", "one"],
        ["Brief.", "one", "Hello, world.", "two"],
        ["three"],
        ["Long.", "one", "Hello, world.", "two", "Hello, world.", "four"],
    ]


def test_a_conversation_keeps_its_own_system_message(shell: InteractiveShell, script: ScriptedBackend) -> None:
    shell.run_cell("%config MLXNB.system = 'Default.'")
    value(shell, "%generate --chat=own --system Own. one")
    value(shell, "%generate --chat=own two")
    value(shell, "%generate --chat=other three")
    value(shell, "%generate --chat=other four")
    systems = [[m.content for m in request.messages if m.role == "system"] for request in script.requests]
    assert systems == [["Own."], ["Own."], ["Default."], ["Default."]]


def test_a_failed_answer_leaves_the_conversation_alone(shell: InteractiveShell, script: ScriptedBackend) -> None:
    value(shell, "%generate --chat one")
    script.fail_after = 1
    with pytest.raises(MlxnbError):
        value(shell, "%generate --chat two")
    script.fail_after, script.pieces = None, []
    with pytest.raises(EmptyAnswerError):
        value(shell, "%generate --chat three")
    script.pieces = ["Hi"]
    value(shell, "%generate --chat four")
    assert [m.content for m in script.requests[-1].messages] == ["one", "Hello, world.", "four"]


def test_code_is_offered_as_the_next_cell(
    shell: InteractiveShell, script: ScriptedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    script.pieces = ["So:\n```python\n", "print(1)\n", "```\nDone."]
    value(shell, "%generate --format code Hi")
    assert shell.rl_next_input == "print(1)"
    assert "So:" not in capsys.readouterr().out


def test_an_answer_that_is_no_json_is_shown_with_a_warning(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    assert value(shell, "%generate --format json Hi").text == "Hello, world."
    out = capsys.readouterr().out
    assert "not valid JSON" in out
    assert "Hello, world." in out


def test_thinking_without_an_answer_is_no_empty_answer(shell: InteractiveShell, script: ScriptedBackend) -> None:
    script.pieces, script.thinking = [], ["Hm."]
    assert value(shell, "%generate Hi").thinking == "Hm."


def test_an_empty_answer_is_kept_and_then_fails(shell: InteractiveShell, script: ScriptedBackend) -> None:
    script.pieces = []
    with pytest.raises(EmptyAnswerError, match="without a word"):
        value(shell, "%generate r << Hi")
    assert shell.user_ns["r"].finish_reason == "stop"


def test_a_wrong_name_fails_before_anything_runs(shell: InteractiveShell, script: ScriptedBackend) -> None:
    with pytest.raises(OptionError):
        value(shell, "%generate --into 1r Hi")
    assert script.requests == []


def test_a_failed_answer_keeps_the_variable(shell: InteractiveShell, script: ScriptedBackend) -> None:
    shell.user_ns["r"] = "before"
    script.fail_after = 1
    with pytest.raises(MlxnbError, match="fell over"):
        value(shell, "%generate r << Hi")
    assert shell.user_ns["r"] == "before"


def test_help_is_printed_and_is_the_docstring(
    shell: InteractiveShell, script: ScriptedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    value(shell, "%generate --help")
    shown = capsys.readouterr().out
    assert shown.strip() == shell.find_magic("generate").__doc__.strip()
    assert "--temperature" in shown
    assert "Jinja2" in shown
    assert script.requests == []


def test_the_engine_is_the_processs_own(shell: InteractiveShell) -> None:
    value(shell, "%generate Hi")
    assert [info.backend for info in mlxnb.engine().models()] == ["scripted"]
