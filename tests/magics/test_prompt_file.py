"""Prompts kept in files, in a real shell over a scripted backend."""

from __future__ import annotations

import os
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
        ("{% include 'other.md' %}", r"there is no other\.md beside the prompt file"),
        ("{% include '../ask.md' %}", r"there is no \.\./ask\.md beside"),
        ("a\n{% include 'ask.md' %}", r"include 'ask\.md' %\} on line 2 .*RecursionError"),
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
        ("@binary.md", PromptError, r"binary\.md is not text: byte 0x00 at position 2"),
        ("@utf16.md", PromptError, r"utf16\.md is not text in UTF-8: byte 0xff at position 0"),
        ("@large.md", PromptError, r"large\.md has 33\.6 MB, and a prompt has at most 16\.8 MB"),
        ("@no-one-by-this-name/~x", PromptError, "There is no prompt file"),
        ("@~no-one-by-this-name/x", PromptError, "There is no prompt file ~no-one-by-this-name/x"),
        ("@nothing.md", EmptyPromptError, r"The templates of the prompt file nothing\.md leave no text"),
    ],
)
def test_what_is_no_prompt_file_is_said(
    shell: InteractiveShell, script: ScriptedBackend, here: Path, line: str, kind: type[MlxnbError], says: str
) -> None:
    (here / "ask.md").write_text("Hi")
    (here / "folder").mkdir()
    (here / "latin.txt").write_bytes(b"gr\xfcn")
    (here / "empty.md").write_text(" \n")
    (here / "binary.md").write_bytes(b"Hi\0there")
    (here / "utf16.md").write_bytes("Hi".encode("utf-16"))
    (here / "nothing.md").write_text("{% if false %}Hi{% endif %}\n")
    with (here / "large.md").open("wb") as large:
        large.truncate(32 << 20)
    with pytest.raises(kind, match=says):
        value(shell, f"%generate {line}")
    assert script.requests == []


def test_text_after_a_file_on_a_cells_line_is_refused(shell: InteractiveShell, here: Path) -> None:
    (here / "ask.md").write_text("Hi")
    with pytest.raises(OptionError, match="text after the options: 'and more'"):
        value(shell, "%%generate @ask.md and more\nbody")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="a device that never ends is needed")
def test_a_device_or_a_pipe_is_not_read(shell: InteractiveShell, here: Path) -> None:
    os.mkfifo(here / "pipe.md")
    for name in ("/dev/zero", "pipe.md"):
        with pytest.raises(PromptError, match=f"{name} is no regular file. Write @@"):
            value(shell, f"%generate @{name}")


def test_a_file_is_read_anew_each_time(shell: InteractiveShell, script: ScriptedBackend, here: Path) -> None:
    for text in ("one", "two"):
        (here / "ask.md").write_text(text)
        value(shell, "%generate @ask.md")
        assert said(script) == text
    value(shell, "%generate --last 1")
    assert said(script) == "one"


def test_a_file_includes_those_beside_it(shell: InteractiveShell, script: ScriptedBackend, here: Path) -> None:
    """Beside the file, not in the folder that the kernel runs in."""
    folder = here / "prompts"
    (folder / "parts").mkdir(parents=True)
    (folder / "parts" / "rules.md").write_bytes(b"\xef\xbb\xbfBe {{ how }}.\r\n")
    (folder / "macros.j2").write_text("{% macro item(x) %}- {{ x }}{% endmacro %}")
    (folder / "base.md").write_text("Task: {% block task %}{% endblock %}")
    (folder / "ask.md").write_text(
        "{% include 'parts/rules.md' %}{% from 'macros.j2' import item %}{{ item(1) }}"
        "{% include 'none.md' ignore missing %}"
    )
    (folder / "asked.md").write_text("{% extends 'base.md' %}{% block task %}sum up{% endblock %}")
    shell.user_ns["how"] = "brief"
    value(shell, "%generate @prompts/ask.md")
    assert said(script) == "Be brief.\n- 1"
    value(shell, "%generate @prompts/asked.md")
    assert said(script) == "Task: sum up"
    (folder / "parts" / "rules.md").write_text("one\n{{ nothing }}")
    with pytest.raises(TemplateError, match=r"rules\.md' %\} on line 1 .*'nothing' is undefined \(line 2 of rules\.md"):
        value(shell, "%generate @prompts/ask.md")
    (folder / "parts" / "rules.md").write_text("one\n\n{% if %}")
    with pytest.raises(TemplateError, match=r"on line 1 .*\(line 3 of rules\.md\)"):
        value(shell, "%generate @prompts/ask.md")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ get_ipython().run_cell('reached = 1') }}", "calls what the notebook itself defines, and not get_ipython"),
        ("{{ ip.run_cell('reached = 1') }}", "access to attribute 'run_cell' of 'InteractiveShell'"),
        ("{{ os.system('exit 1') }}", r"os\.system is out of reach of a prompt file: make a variable"),
        ("{{ system('exit 1') }}", "and not system"),
        ("{{ open('secret').read() }}", "and not open"),
        ("{{ Path('secret').read_text() }}", "and not Path"),
        ("{{ exit() }}", "and not ExitAutocall"),
        ("{{ mine.__globals__ }}", "access to attribute '__globals__'"),
        ("{{ xs.append(2) }}", "access to attribute 'append' of 'list' object is unsafe"),
        ("{{ 'x'.format_map({}).__class__ }}", "access to attribute '__class__'"),
        ("{{ '{0.__class__}'.format(1) }}", "access to attribute '__class__'"),
        ("{% set f = get_ipython %}{{ f() }}", "and not get_ipython"),
        ("{{ ['exit'] | map('system') | list }}", "No filter named 'system'"),
    ],
)
def test_a_file_reaches_values_and_no_further(shell: InteractiveShell, here: Path, text: str, says: str) -> None:
    """A prompt file may come from anywhere: it runs no code but what the notebook itself defines."""
    value(shell, "import os\nfrom os import system\nfrom pathlib import Path\nip = get_ipython()\nxs = [1]")
    value(shell, "def mine():\n    return 1")
    (here / "secret").write_text("hidden")
    (here / "ask.md").write_text(text)
    with pytest.raises(TemplateError, match=says):
        value(shell, "%generate @ask.md")
    assert "reached" not in shell.user_ns
    assert shell.user_ns["xs"] == [1]


def test_a_file_has_what_templates_are_for(shell: InteractiveShell, script: ScriptedBackend, here: Path) -> None:
    cell = (
        "from contextlib import contextmanager\nfrom functools import lru_cache\n"
        "@contextmanager\ndef quietly():\n    yield\n"
        "@quietly()\ndef wrapped():\n    return 'w'\n"
        "@lru_cache\ndef cached():\n    return 'c'\n"
        "def twice(x):\n    return 2 * x\n"
        "class Point:\n    def __init__(self, x):\n        self.x = x\n    def far(self):\n        return self.x > 3\n"
        "point, table = Point(4), {'a': [1, 2]}"
    )
    value(shell, cell)
    (here / "ask.md").write_text(
        "{{ twice(2) }} {{ point.far() }} {{ Point(1).x }} {{ table.items() | list }} {{ table['a'] | sum }} "
        "{{ 'ab'.upper() }} {{ '{:>3}'.format(7) }} {{ '%02d' | format(3) }} {{ range(2) | list }} {{ len(table) }}"
        "{% set ns = namespace(n=1) %}{% set ns.n = 5 %} {{ ns.n }} {{ dict(a=1).a }} {{ wrapped() }} {{ cached() }}"
    )
    value(shell, "%generate @ask.md")
    assert said(script) == "4 True 1 [('a', [1, 2])] 3 AB   7 03 [0, 1] 1 5 1 w c"


def test_a_cell_is_the_persons_own_code(shell: InteractiveShell, script: ScriptedBackend) -> None:
    value(shell, "import os")
    value(shell, "%generate {{ os.path.basename('a/b') }}")
    assert said(script) == "b"
