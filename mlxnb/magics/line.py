"""Reads a magic's line: options from the front, `NAME <<`, and the rest word for word, apostrophes and all."""

from __future__ import annotations

import argparse
import io
import keyword
import re
import shlex
from collections.abc import Callable

from ..errors import OptionError
from .options import OptionParser

OPTION = re.compile(r"--?[A-Za-z]|--(\s|$)")
NUMBER = re.compile(r"\d+(\s|$)")
INTO = re.compile(r"(\S+?)\s*<<(?=\s|$)\s*")


def read_line(
    parser: OptionParser,
    text: str,
    *,
    in_cell: bool,
    file: Callable[[str], tuple[str | None, str]] = lambda rest: (None, rest),
) -> tuple[argparse.Namespace, str]:
    """The options of `text` and the prompt that follows them; `options.into` also holds the NAME of `NAME <<`.

    `in_cell` says that the prompt is in the cell's body: the line must hold options only. `file` takes the name of a
    prompt's file off the text after the options, which goes into `options.prompt_file`; options may follow it too.

    Raises:
        OptionError: an unknown option, a missing value, an open quote, stray words, or a NAME that is no variable.
    """
    tokens, rest = _scan(parser, text, in_cell)
    into = "" if tokens[-1:] == ["--"] else _into(rest)
    if into:
        more, rest = _scan(parser, rest[len(into) :], in_cell)
        tokens += more
    name = None
    if tokens[-1:] != ["--"]:
        name, rest = file(rest)
    if name is not None:
        more, rest = _scan(parser, rest, in_cell)
        tokens += more
    options = parser.parse_args([token for token in tokens if token != "--"])
    options.prompt_file = name
    into = into.partition("<<")[0].strip()
    if getattr(options, "each", None) is None:
        options.into = _one_name(options.into, into)
    else:
        options.into = _one_place(options.into, into)
    if in_cell and rest.strip() and not options.help:
        remedy = "Text belongs in the cell's body, below the first line."
        raise OptionError(f"There is text after the options: {rest.strip()!r}.", remedy)
    return options, rest


def read_words(parser: OptionParser, text: str) -> tuple[argparse.Namespace, list[str]]:
    """The options of `text`, wherever they stand, and the words between and after them.

    Raises:
        OptionError: an unknown option, a missing value, an open quote, or an `into` that is no variable.
    """
    tokens: list[str] = []
    words: list[str] = []
    while text := text.lstrip():
        more, text = _scan(parser, text, in_cell=False)
        ended = more[-1:] == ["--"]
        tokens += more[: len(more) - ended]
        while text.strip() and (ended or not OPTION.match(text := text.lstrip())):
            word, text = first_word(text.lstrip())
            words.append(word)
    options = parser.parse_args(tokens)
    check_name(options.into)
    return options, words


def _into(text: str) -> str:
    found = INTO.match(text)
    return found[0] if found else ""


def _scan(parser: OptionParser, text: str, in_cell: bool) -> tuple[list[str], str]:
    """Options as argparse takes them, each one token so that a value may begin with a dash, and what follows."""
    tokens: list[str] = []
    while OPTION.match(text := text.lstrip()):
        word, after = first_word(text)
        if word == "--":
            return [*tokens, word], after.lstrip(" \t")
        name, equals, value = word.partition("=")
        action = parser.action(name)
        if not equals and _takes_value(action, after, in_cell):
            equals = "="
            value, after = first_word(after.lstrip())
        if equals and action.nargs == 0:
            raise OptionError(f"{name} takes no value, and was given {value!r}.", parser.see_help)
        if not equals and action.nargs is None:
            raise OptionError(f"{name} has no value.", f"It is written {name} {action.metavar}. {parser.see_help}")
        tokens.append(f"{action.option_strings[-1]}{equals}{value}")
        text = after
    return tokens, text


def _takes_value(action: argparse.Action, after: str, in_cell: bool) -> bool:
    """Whether the next word is this option's value. `--chat NAME` in words works only where no prompt can follow, as
    none does behind `--last`.
    """
    after = after.lstrip()
    if action.dest == "last":
        return NUMBER.match(after) is not None
    if not after or action.nargs == 0 or OPTION.match(after):
        return False
    return action.nargs is None or (in_cell and not INTO.match(after))


def first_word(text: str) -> tuple[str, str]:
    """The first word of `text` with its quotes removed, and what comes after it. Backslashes are just text.

    A `{{ }}` at the front counts as part of the word, spaces and quotes included.
    """
    held = text[: text.index("}}") + 2] if text.startswith("{{") and "}}" in text else ""
    stream = io.StringIO(text[len(held) :])
    lexer = shlex.shlex(stream, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""
    if held and not text[len(held) : len(held) + 1].strip():
        return held, text[len(held) :]
    try:
        word = lexer.get_token() or ""
    except ValueError:
        raise OptionError(f"A quote is not closed in {text.strip()!r}.", "Close it, or leave it out.") from None
    return held + word, text[len(held) + stream.tell() :]


def _one_place(option: str | None, arrow: str) -> str | None:
    """The same where it may be a column too, which whoever fills it checks."""
    if option is not None and arrow and option != arrow:
        raise OptionError(f"There are two names for the answer, {option} and {arrow}.", "Give one.")
    return option if option is not None else arrow or None


def _one_name(option: str | None, arrow: str) -> str | None:
    name = _one_place(option, arrow)
    check_name(
        name, "Write -- before a prompt that contains <<." if arrow else "It takes a Python name, such as answer."
    )
    return name


def check_name(name: str | None, remedy: str = "It takes a Python name, such as found.") -> None:
    """Refuse a name that no variable can have; None is none.

    Raises:
        OptionError: naming it.
    """
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        raise OptionError(f"{name!r} is no name for a variable.", remedy)
