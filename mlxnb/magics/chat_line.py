"""What `%mlxnb chat NAME …` takes, checked before anything is done."""

from __future__ import annotations

import argparse
import difflib

from ..errors import OptionError

# The commands, with what follows each.
CHAT_COMMANDS = {"show": "", "undo": "", "clear": "", "fork": "a new name", "save": "a file", "load": "a file"}


def check_chat(options: argparse.Namespace, see_help: str) -> argparse.Namespace:
    """The options with `what` and `last` filled in, and `turn` as a number.

    Raises:
        OptionError: an unknown command, or a word that is missing or too much.
    """
    options.what = options.more or "show"
    if options.name is None:
        raise OptionError("%mlxnb chat needs a conversation's name.", "%mlxnb chats lists them.")
    if options.what not in CHAT_COMMANDS:
        near = difflib.get_close_matches(options.what, CHAT_COMMANDS, n=1)
        remedy = f"Did you mean {near[0]}?" if near else f"It takes {', '.join(CHAT_COMMANDS)}."
        raise OptionError(f"Unknown chat command {options.what}.", remedy)
    takes = CHAT_COMMANDS[options.what]
    if bool(takes) != (options.last is not None):
        problem = f"needs {takes}" if takes else f"takes no {options.last!r}"
        raise OptionError(f"%mlxnb chat NAME {options.what} {problem}.", see_help)
    if options.turn is not None:
        options.turn = _turn(options)
    return options


def _turn(options: argparse.Namespace) -> int:
    if options.what != "fork":
        raise OptionError(f"--turn says nothing to chat NAME {options.what}.", "It belongs to chat NAME fork.")
    if not (options.turn.isascii() and options.turn.isdigit()):
        raise OptionError(f"turn is {options.turn!r}.", "It takes the number of a turn, 0 for none.")
    return int(options.turn)
