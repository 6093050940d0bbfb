"""Reading a magic's line."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.errors import OptionError
from mlxnb.magics.line import OPTION, read_line, read_words
from mlxnb.magics.options import FORMATS, generate_parser
from mlxnb.render.formats import FORMATS as RENDERED

PARSER = generate_parser()


def read(text: str, in_cell: bool = False) -> tuple[dict[str, object], str]:
    options, rest = read_line(PARSER, text, in_cell=in_cell)
    return {name: value for name, value in vars(options).items() if value not in (None, False)}, rest


@pytest.mark.parametrize(
    ("line", "options", "prompt"),
    [
        ("What's new?", {}, "What's new?"),
        ("--max-tokens 20 What's new?", {"max_tokens": "20"}, "What's new?"),
        ("--max_tokens=20 Hi", {"max_tokens": "20"}, "Hi"),
        ("-m pocket --raw def f():", {"model": "pocket", "raw": True}, "def f():"),
        ("--system 'Be brief.' Hi", {"system": "Be brief."}, "Hi"),
        ('--stop "a b" --stop c Hi', {"stop": ["a b", "c"]}, "Hi"),
        ("--stop=--x Hi", {"stop": ["--x"]}, "Hi"),
        ("--seed -1 Hi", {"seed": "-1"}, "Hi"),
        (r"-m C:\models\small Hi", {"model": r"C:\models\small"}, "Hi"),
        ("--max-tokens {{ n + 1 }} Hi", {"max_tokens": "{{ n + 1 }}"}, "Hi"),
        ("--chat Hi there", {"chat": "chat"}, "Hi there"),
        ("--chat=tutor Hi there", {"chat": "tutor"}, "Hi there"),
        ("--into r Hi", {"into": "r"}, "Hi"),
        ("r << Hi -- you", {"into": "r"}, "Hi -- you"),
        ("r <<Hi", {}, "r <<Hi"),
        ("--raw r << --seed 3 Hi", {"raw": True, "into": "r", "seed": "3"}, "Hi"),
        ("r << -- --seed", {"into": "r"}, "--seed"),
        ("-- r << 2", {}, "r << 2"),
        ("-- --help", {}, "--help"),
        ("- a list", {}, "- a list"),
        ("-5 + 3", {}, "-5 + 3"),
        ("--", {}, ""),
        ("", {}, ""),
    ],
)
def test_a_line_is_options_and_then_a_prompt_word_for_word(line: str, options: dict[str, object], prompt: str) -> None:
    assert read(line) == (options, prompt)


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("--chat tutor", {"chat": "tutor"}),
        ("--chat", {"chat": "chat"}),
        ("--chat --raw", {"chat": "chat", "raw": True}),
        ("--chat r <<", {"chat": "chat", "into": "r"}),
        ("r <<", {"into": "r"}),
        ("r << --seed 3", {"into": "r", "seed": "3"}),
        ("--seed 3 r << ", {"into": "r", "seed": "3"}),
    ],
)
def test_a_cells_first_line_holds_options_only(line: str, options: dict[str, object]) -> None:
    assert read(line, in_cell=True) == (options, "")


@pytest.mark.parametrize(
    ("line", "in_cell", "message"),
    [
        ("--temprature 1 Hi", False, "Unknown option --temprature. Did you mean --temperature?"),
        ("--zzz", True, "Unknown option --zzz. See %generate --help."),
        ("-x Hi", False, "Unknown option -x"),
        ("--seed", True, "--seed has no value. It is written --seed N."),
        ("--system --raw", True, "--system has no value."),
        ("--raw=3 Hi", False, "--raw takes no value"),
        ("--system 'Be brief Hi", False, 'A quote is not closed in "\'Be brief Hi".'),
        ("What is this?", True, "There is text after the options: 'What is this?'. Text belongs in the cell's"),
        ("--into 1x Hi", False, "'1x' is no name for a variable."),
        ("--into class Hi", False, "'class' is no name for a variable."),
        ("my-answer << Hi", False, "'my-answer' is no name for a variable. Write -- before a prompt"),
        ("--into a b << Hi", False, "There are two names for the answer, a and b."),
    ],
)
def test_a_mistake_is_named(line: str, in_cell: bool, message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        read(line, in_cell)


@given(st.text().map(str.strip).filter(lambda text: not OPTION.match(text) and "<<" not in text))
def test_any_text_after_an_option_is_the_prompt(prompt: str) -> None:
    assert read("--seed 1 " + prompt) == ({"seed": "1"}, prompt.lstrip())


def test_parsing_never_prints_or_leaves_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    for line in ("--format", "--max-tokens", "--help", "-h x", "--version"):
        with contextlib.suppress(OptionError):
            read(line)
    assert capfd.readouterr() == ("", "")


def test_the_help_shows_what_render_can_show() -> None:
    assert tuple(RENDERED) == FORMATS
    assert all(f"--{name}" in PARSER.format_help() for name in ("temperature", "top-p", "min-p", "chat", "into"))


@pytest.mark.parametrize(
    ("line", "options", "words"),
    [
        ("", {}, []),
        ("pocket --seed 3 'two words' --raw", {"seed": "3", "raw": True}, ["pocket", "two words"]),
        ("--seed 3 a b --seed=4 c", {"seed": "4"}, ["a", "b", "c"]),
        ("a -- --seed --raw", {}, ["a", "--seed", "--raw"]),
        ("-- --", {}, ["--"]),
        ("{{ name + 'x' }} --into r", {"into": "r"}, ["{{ name + 'x' }}"]),
    ],
)
def test_words_stand_anywhere_between_options(line: str, options: dict[str, object], words: list[str]) -> None:
    read, found = read_words(PARSER, line)
    assert {name: value for name, value in vars(read).items() if value not in (None, False)} == options
    assert found == words


@pytest.mark.parametrize(
    ("line", "message"), [("a --sed 3", "Did you mean --seed?"), ("a --into 1x", "'1x' is no name")]
)
def test_a_mistake_between_words_is_found(line: str, message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        read_words(PARSER, line)


@given(st.lists(st.sampled_from(["word", "--raw", "--seed 3", "--stop=x", "a.b/c"]), max_size=8))
def test_words_keep_their_order(parts: list[str]) -> None:
    options, words = read_words(PARSER, " ".join(parts))
    assert words == [part for part in parts if not part.startswith("--")]
    assert options.raw == ("--raw" in parts)
