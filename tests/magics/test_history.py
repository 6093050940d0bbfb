"""What was asked is listed, and asked again, in a real shell over a scripted backend."""

from __future__ import annotations

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from mlxnb.errors import MlxnbError, OptionError, PromptError
from mlxnb.magics import history
from mlxnb.request import Request
from tests.magics.test_generate import value
from tests.scripted import ScriptedBackend

pytestmark = pytest.mark.usefixtures("script")


def shown(shell: InteractiveShell) -> str:
    with capture_output() as out:
        value(shell, "%mlxnb history")
    return "\n".join(output.data["text/plain"] for output in out.outputs)


def test_the_last_request_is_asked_again(shell: InteractiveShell, script: ScriptedBackend) -> None:
    value(shell, "%%generate --temperature 0.5 --seed 3 --stop END --system 'Be brief.'\nWhat is a list?")
    value(shell, "%generate --last")
    assert script.requests[1] == script.requests[0]


def test_the_line_changes_what_it_names_and_nothing_else(shell: InteractiveShell, script: ScriptedBackend) -> None:
    value(shell, "%%generate --temperature 0.5 --seed 3 --max-tokens 9\nWhat is a list?")
    result = value(
        shell, "r = %generate --last --seed 4 --cache off --stop '\\n' --stop END --system 'Be long.' --strict"
    )
    first, second = script.requests
    assert (second.sampling.temperature, second.sampling.seed, second.max_tokens) == (0.5, 4, 9)
    assert (second.cache, second.stop, second.strict) == ("off", ("\n", "END"), True)
    assert [(m.role, m.content) for m in second.messages] == [("system", "Be long."), ("user", "What is a list?")]
    assert first.messages == second.messages[1:]
    assert result is None
    assert shell.user_ns["r"].text == "Hello, world."


def test_an_earlier_one_by_its_number(shell: InteractiveShell, script: ScriptedBackend) -> None:
    for prompt in ("one", "two", "three"):
        value(shell, f"%generate {prompt}")
    for line, prompt in (
        ("--last 2", "two"),
        ("--last=1 --seed 1", "one"),
        ("--last 4 --seed 2", "two"),
        ("--last", "two"),
    ):
        value(shell, f"%generate {line}")
        assert script.requests[-1].messages[-1].content == prompt
    assert script.requests[-1].sampling.seed == 2


def test_history_lists_what_was_asked_the_newest_first(shell: InteractiveShell) -> None:
    assert "nothing in this kernel yet" in shown(shell)
    value(shell, "%generate What is a list?")
    value(shell, f"%%generate --max-tokens 3\n{'Tell me more. ' * 20}\n")
    lines = shown(shell).splitlines()
    assert lines[0] == "Asked in this kernel; %generate --last N asks again"
    assert lines[1].split() == ["number", "prompt", "model", "answer", "(tokens)", "decode", "(tok/s)", "finish"]
    assert lines[3].startswith("     2  Tell me more. Tell me more.")
    assert "…  pocket model" in lines[3]
    assert lines[4].split()[:6] == ["1", "What", "is", "a", "list?", "pocket"]
    assert lines[4].endswith("stop")


def test_several_answers_are_one_line(shell: InteractiveShell, script: ScriptedBackend) -> None:
    value(shell, "%generate What is a list?")
    with pytest.raises(OptionError):
        value(shell, "%generate --n 0 What is a set?")
    value(shell, "%generate --n 2 --temperature 1 --seed 4 --quiet What is a dict?")
    value(shell, "%generate --compare temperature=0,1 --quiet What is a tuple?")
    lines = [line.split() for line in shown(shell).splitlines()[3:]]
    assert [line[0] for line in lines] == ["3", "2", "1"]
    assert lines[0][4] == "tuple?"
    assert [line[-2:] for line in lines[:2]] == [["2", "answers"], ["2", "answers"]]
    value(shell, "%generate --last 2 --seed 9")
    assert script.requests[-1].messages[-1].content == "What is a dict?"
    assert script.requests[-1].sampling.temperature == 1


def test_what_failed_is_listed_too(shell: InteractiveShell, script: ScriptedBackend) -> None:
    script.fail_after = 0
    with pytest.raises(MlxnbError):
        value(shell, "%generate Hi")
    assert shown(shell).splitlines()[-1].endswith("failed")


@pytest.mark.parametrize(
    ("line", "kind", "says"),
    [
        ("--last 7", OptionError, "There is no request 7. There are 1 to 1"),
        ("--last Hello", PromptError, "--last asks the same prompt again, and was given 'Hello'"),
        ("--last --raw", PromptError, "was given --raw"),
        ("--last --chat=c", PromptError, "was given --chat"),
        ("--last --seed x", OptionError, "seed is 'x'"),
        ("--last --think maybe", OptionError, "think is 'maybe'"),
        ("--last=x", OptionError, "There is no request x"),
    ],
)
def test_what_cannot_be_asked_again(
    shell: InteractiveShell, script: ScriptedBackend, line: str, kind: type[MlxnbError], says: str
) -> None:
    value(shell, "%generate Hi")
    with pytest.raises(kind, match=says):
        value(shell, f"%generate {line}")
    assert len(script.requests) == 1


def test_nothing_to_ask_again(shell: InteractiveShell) -> None:
    with pytest.raises(OptionError, match="Nothing was asked in this kernel yet"):
        value(shell, "%generate --last")


def test_a_raw_prompt_takes_no_system_message_later(shell: InteractiveShell) -> None:
    value(shell, "%generate --raw def f")
    with pytest.raises(PromptError, match="A system message needs the chat template"):
        value(shell, "%generate --last --system x")


def test_several_answers_are_one_request_and_the_last(shell: InteractiveShell, script: ScriptedBackend) -> None:
    """Not something older, which would be another prompt."""
    value(shell, "%generate one")
    for line, prompt in (("--n 3 --temperature 1", "two"), ("--compare temperature=0,1", "three")):
        value(shell, f"%%generate {line}\n{prompt}")
        value(shell, "%generate --last")
        assert script.requests[-1].messages[-1].content == prompt
    lines = shown(shell).splitlines()
    assert [line.split()[0] for line in lines[3:]] == ["5", "4", "3", "2", "1"]
    assert lines[4].endswith("2 answers")
    assert lines[6].split()[:2] == ["2", "two"]
    assert lines[6].endswith("3 answers")
    before = len(script.requests)
    value(shell, "%generate --last 2 --n 2 --seed 7")
    assert sorted(asked.sampling.seed or 0 for asked in script.requests[before:]) == [7, 8]


def test_a_table_is_no_request_to_ask_again(shell: InteractiveShell, script: ScriptedBackend) -> None:
    value(shell, "%generate one")
    shell.user_ns["xs"] = ["a", "b"]
    value(shell, "%%generate --each xs\nSay {{ row }}.")
    line = shown(shell).splitlines()[3]
    assert line.split()[:4] == ["2", "Say", "{{", "row"]
    assert line.endswith("2 answers")
    asked = len(script.requests)
    with pytest.raises(OptionError, match="Request 2 asked for every row of --each, which --last does not do again"):
        value(shell, "%generate --last")
    assert len(script.requests) == asked
    value(shell, "%generate --last 1")
    value(shell, "%%generate --each xs\n")
    assert shown(shell).splitlines()[3].split()[:3] == ["4", "--each", "xs"]


def test_a_cell_with_tools_is_one_request(shell: InteractiveShell, script: ScriptedBackend) -> None:
    """Its rounds are none of their own, and asking again would run no function."""
    value(shell, "def add(a: int, b: int) -> int:\n    'Adds.'\n    return a + b\n")
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    script.answers = [[call], ["It ", "is ", "3."]]
    value(shell, "%%generate --tool add --allow add\nWhat is 1 + 2?")
    assert len(script.requests) == 2
    [line] = shown(shell).splitlines()[3:]
    assert line.split()[:6] == ["1", "What", "is", "1", "+", "2?"]
    assert line.split()[-4] == "3"
    with pytest.raises(
        OptionError, match=r"Request 1 offered tools, which --last does not do again\. Run its cell again"
    ):
        value(shell, "%generate --last")


def test_a_secret_is_not_written_into_the_notebook(
    shell: InteractiveShell, script: ScriptedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-0123456789abcdef")
    value(shell, "import os\nkey = os.environ['SOME_API_KEY']")
    value(shell, "%generate Is {{ key }} a good key?")
    assert "sk-0123456789abcdef" not in shown(shell)
    assert "(not shown: it holds the value of SOME_API_KEY)" in shown(shell)
    value(shell, "%generate --last")
    assert script.requests[-1].messages[-1].content == "Is sk-0123456789abcdef a good key?"


def test_the_oldest_go_where_there_are_many_or_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "KEPT", 3)
    monkeypatch.setattr(history, "CHARACTERS", 100)
    asked = history.History()
    for length, numbers in ((9, [1]), (9, [1, 2]), (9, [1, 2, 3]), (9, [2, 3, 4]), (90, [4, 5]), (200, [6]), (9, [7])):
        asked.add(Request.of("a" * length))
        assert [each.number for each in asked] == numbers
