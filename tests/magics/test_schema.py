"""`--schema` in a real shell: the variable that it names, what comes of it, and what a person reads who is wrong."""

from __future__ import annotations

import pytest
from IPython.core.interactiveshell import InteractiveShell

import mlxnb
from mlxnb.errors import GenerationError, OptionError
from mlxnb.runtime import Engine
from tests.magics.kernel import Kernel
from tests.magics.test_generate import value
from tests.scripted import ScriptedBackend

pytest.importorskip("pydantic")
SHOWN = ("display_data", "update_display_data", "execute_result")

DEFINE = """
import dataclasses, re, types
@dataclasses.dataclass
class Point:
    x: int
    y: int = 0
colours = ["red", "blue"]
code = re.compile("[a-c]+")
own = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
shapes = types.SimpleNamespace(Point=Point)
number = 3
"""


@pytest.mark.usefixtures("script")
def test_a_variable_is_a_schema(shell: InteractiveShell, script: ScriptedBackend) -> None:
    value(shell, DEFINE)
    script.pieces = ['{"x": 1, ', '"y": 2}']
    result = value(shell, "%%generate --format json --schema Point --into p\nWhere?")
    point = shell.user_ns["Point"]
    assert result.parsed == point(1, 2)
    assert shell.user_ns["p"].parsed == point(1, 2)
    assert value(shell, "%generate --schema shapes.Point Where?").parsed == point(1, 2)
    assert value(shell, "%generate --schema own Where?").parsed == {"x": 1, "y": 2}
    assert script.requests[-1].messages[-1].content == "Where?"
    value(shell, "%generate --schema own --schema-in-prompt Where?")
    assert '"integer"' in script.requests[-1].messages[-1].content
    script.pieces = ["red"]
    assert value(shell, "%generate --schema colours Which?").parsed == "red"
    script.pieces = ["abba"[:2]]
    assert value(shell, "%generate --schema code Which?").parsed == "ab"
    assert value(shell, "%generate --schema 'regex:[ab]+' Which?").parsed == "ab"


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--schema Nothing", "--schema is 'Nothing', and no variable goes by that name. Run the cell"),
        ("--schema number", "schema is a int. It takes a pydantic model"),
        ("--schema shapes.Circle", "--schema is 'shapes.Circle', and shapes has no Circle."),
        ("--schema 3x", "--schema is '3x'. It takes the name of a variable"),
        ("--schema 'regex:('", "schema is no regular expression"),
        ("--schema-in-prompt", "--schema-in-prompt is on without a schema"),
        ("--schema own --stop x", "stop is 'x' with a schema"),
    ],
)
def test_what_is_none_is_said(shell: InteractiveShell, line: str, says: str) -> None:
    value(shell, DEFINE)
    with pytest.raises(OptionError) as caught:
        value(shell, f"%generate {line} Hi")
    assert says in str(caught.value)


@pytest.mark.usefixtures("script")
def test_an_answer_that_is_something_else_is_shown_and_fails_the_cell(
    shell: InteractiveShell, script: ScriptedBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    value(shell, DEFINE)
    script.pieces = ["the answer is 3"]
    with pytest.raises(GenerationError, match="does not keep to its schema"):
        value(shell, "%generate --schema Point Where?")
    assert "the answer is 3" in capsys.readouterr().out


def test_the_pocket_model_answers_in_a_form(
    shell: InteractiveShell, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("llguidance")
    monkeypatch.setattr(mlxnb, "engine", lambda: engine)
    value(shell, DEFINE)
    result = value(shell, "%%generate --backend torch --schema Point --temperature 1 --seed 2\nWhere is it?")
    assert isinstance(result.parsed, shell.user_ns["Point"])
    with pytest.raises(OptionError, match="look-around"):
        value(shell, "%generate --backend torch --schema 'regex:(?=a)a' Hi")


def test_a_cell_in_a_kernel_shows_the_value_and_what_cut_it(kernel: Kernel) -> None:
    kernel.run(DEFINE + "script('{\"x\": 1, ', '\"y\": 2}')")
    ran = kernel.run("%%generate --schema Point --into p\nWhere?")
    assert ran.reply["status"] == "ok"
    assert '"x": 1' in ran.answers[-1]
    assert kernel.run("print(p.parsed)").printed == "Point(x=1, y=2)\n"
    cut = kernel.run("%%generate --schema Point --max-tokens 1 --into p\nWhere?")
    assert "the answer was cut at its token limit, so that nothing is parsed" in str(cut.of(*SHOWN))
    gone = kernel.run("print(p.parsed)")
    assert gone.reply["ename"] == "GenerationError"
    assert "Ask with a larger max_tokens" in gone.reply["evalue"]
    wrong = kernel.run("%%generate --schema Pont\nWhere?")
    assert wrong.reply["ename"] == "OptionError"
    assert "no variable goes by that name" in wrong.reply["evalue"]
