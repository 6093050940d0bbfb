"""Prompts kept in files, in a real shell over a scripted backend."""

from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from mlxnb.errors import EmptyPromptError, MlxnbError, OptionError, PromptError, TemplateError
from tests.magics.test_generate import value
from tests.scripted import ScriptedBackend

pytestmark = pytest.mark.usefixtures("script")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the kernel runs in."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def said(script: ScriptedBackend) -> str:
    return script.requests[-1].messages[-1].content


@pytest.mark.parametrize(
    "cell", ["%%generate @ask.md\n", "%generate @ask.md", '%generate @"ask.md"', "x = %generate @ask.md"]
)
def test_the_file_is_the_prompt(shell: InteractiveShell, script: ScriptedBackend, here: Path, cell: str) -> None:
    (here / "ask.md").write_text("What is a list?\n\nBe brief.\n", encoding="utf-8")
    value(shell, cell)
    assert said(script) == "What is a list?\n\nBe brief."


def test_what_follows_the_file_comes_after_it(shell: InteractiveShell, script: ScriptedBackend, here: Path) -> None:
    (here / "ask.md").write_text("Summarise:\n")
    value(shell, "%%generate @ask.md\na = [1]\n")
    assert said(script) == "Summarise:\n\na = [1]\n".rstrip()
    value(shell, "%generate @ask.md this line")
    assert said(script) == "Summarise:\n\nthis line"


def test_options_stand_before_and_after_the_file(shell: InteractiveShell, script: ScriptedBackend, here: Path) -> None:
    (here / "my ask.md").write_text("Hi")
    result = value(shell, '%%generate --seed 3 r << @"my ask.md" --max-tokens 2\n')
    assert shell.user_ns["r"] is result
    assert (script.requests[0].sampling.seed, script.requests[0].max_tokens) == (3, 2)
    assert said(script) == "Hi"


def test_an_at_sign_stays_possible(shell: InteractiveShell, script: ScriptedBackend) -> None:
    for line, prompt in (
        ("@@property: what does it do?", "@property: what does it do?"),
        ("-- @property?", "@property?"),
        ("@ home", "@ home"),
        ("What is @property?", "What is @property?"),
    ):
        value(shell, f"%generate {line}")
        assert said(script) == prompt
    value(shell, "%%generate\n@property\n")
    assert said(script) == "@property"


def test_a_file_has_templates_as_a_cell_has(shell: InteractiveShell, script: ScriptedBackend, here: Path) -> None:
    (here / "ask.md").write_text("Explain {{ name }}.\n{% \\LaTeX's {#1} stays\n100%}")
    shell.user_ns["name"] = "zip"
    value(shell, "%%generate @ask.md\n{{ name }}!")
    assert said(script) == "Explain zip.\n{% \\LaTeX's {#1} stays\n100%}\n\nzip!"
    value(shell, "%%generate --no-interpolate @ask.md\n")
    assert said(script).startswith("Explain {{ name }}.")
    shell.user_ns["which"] = "ask"
    value(shell, "%generate @{{ which }}.md")
    assert said(script).startswith("Explain zip.")


def test_a_file_with_statements_is_a_whole_template(
    shell: InteractiveShell, script: ScriptedBackend, here: Path
) -> None:
    (here / "ask.md").write_text(
        "{# for people #}\nCompare:\n{% for x in xs if x %}\n- {{ x }}\n{% endfor %}\n{% if n % 2 %}odd{% endif %}\n"
    )
    shell.user_ns |= {"xs": ["a", "", "b"], "n": 3}
    value(shell, "%%generate @ask.md\n{% cell %} text")
    assert said(script) == "Compare:\n- a\n- b\nodd\n\n{% cell %} text"
    value(shell, "%generate --no-interpolate @ask.md")
    assert "{% for x in xs if x %}" in said(script)


def test_the_ending_says_that_it_is_a_template(shell: InteractiveShell, script: ScriptedBackend, here: Path) -> None:
    (here / "ask.md.j2").write_text("{# a note #}Hi {{ 1 + 1 }}")
    value(shell, "%generate @ask.md.j2")
    assert said(script) == "Hi 2"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("one\n{% if n %}\nx", r"line"),
        ("one\n{% for x in missing %}{% endfor %}", r"for x in missing.* on line 2 .*'missing' is undefined"),
        ("a\nb {{ ().__class__ }}", r"\(\)\.__class__.* on line 2"),
        ("{% include 'other.md' %}", "no loader"),
    ],
)
def test_a_template_that_fails_names_its_line(shell: InteractiveShell, here: Path, text: str, says: str) -> None:
    (here / "ask.md").write_text(text)
    with pytest.raises(TemplateError, match=says):
        value(shell, "%generate @ask.md")


def test_a_byte_order_mark_and_line_ends_of_windows_are_no_part_of_it(
    shell: InteractiveShell, script: ScriptedBackend, here: Path
) -> None:
    (here / "ask.md").write_bytes(b"\xef\xbb\xbfHi\r\nthere \xc3\xbc\r\n")
    value(shell, "%generate @ask.md")
    assert said(script) == "Hi\nthere ü"


@pytest.mark.parametrize(
    ("line", "kind", "says"),
    [
        ("@asl.md", PromptError, r"There is no prompt file asl\.md in .*Did you mean @ask\.md\? Write @@"),
        ("@no/where.md", PromptError, r"There is no prompt file no/where\.md in .*Write @@"),
        ("@folder", PromptError, "folder is a folder"),
        ("@latin.txt", PromptError, "latin.txt is not text in UTF-8: byte 0xfc at position 2"),
        ("@empty.md", EmptyPromptError, "empty.md is empty"),
        ('@"ask.md', OptionError, "A quote is not closed"),
    ],
)
def test_what_is_no_prompt_file_is_said(
    shell: InteractiveShell, script: ScriptedBackend, here: Path, line: str, kind: type[MlxnbError], says: str
) -> None:
    (here / "ask.md").write_text("Hi")
    (here / "folder").mkdir()
    (here / "latin.txt").write_bytes(b"gr\xfcn")
    (here / "empty.md").write_text(" \n")
    with pytest.raises(kind, match=says):
        value(shell, f"%generate {line}")
    assert script.requests == []


def test_text_after_a_file_on_a_cells_line_is_refused(shell: InteractiveShell, here: Path) -> None:
    (here / "ask.md").write_text("Hi")
    with pytest.raises(OptionError, match="text after the options: 'and more'"):
        value(shell, "%%generate @ask.md and more\nbody")
