"""Reads the line of a magic that takes a command first: `%mlxnb load NAME`, `%patch_kernels on --strict`."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Collection

from ..errors import OptionError
from .line import first_word
from .options import OptionParser


def read_command(parser: OptionParser, line: str, commands: Collection[str]) -> argparse.Namespace:
    """The options of `line`, whose `command` is one of `commands`.

    Raises:
        OptionError: an unknown command or option, or a word too many; the message offers what is near.
    """
    words = []
    while line.strip():
        word, line = first_word(line.lstrip())
        words.append(word)
    options, extra = parser.parse_known_args(words)
    for word in extra:
        if word.startswith("-"):
            parser.action(word.partition("=")[0])
        raise OptionError(f"{word!r} is one word too many.", parser.see_help)
    if options.command not in commands:
        near = difflib.get_close_matches(options.command, commands, n=1)
        remedy = f"Did you mean {near[0]}?" if near else f"Commands are {', '.join(commands)}."
        raise OptionError(f"Unknown command {options.command}.", remedy)
    return options
