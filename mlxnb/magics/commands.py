"""`%mlxnb`: what the engine holds, loading and unloading models, and the settings."""

from __future__ import annotations

import argparse
import difflib
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand

from ..errors import OptionError
from .defaults import MLXNB
from .fail import one_line_errors
from .line import first_word
from .options import OptionParser

COMMANDS = {
    "status": "what the engine is doing, and the models in memory (also without a command)",
    "models": "the models on this machine",
    "load": "load a model ahead of its first answer: %mlxnb load NAME",
    "unload": "give a model's memory back: %mlxnb unload NAME",
    "config": "every setting, its value and where it came from",
}
USAGE = "%mlxnb [status | models | load NAME | unload NAME | config] [options]"


def command_parser() -> OptionParser:
    """The parser of `%mlxnb`."""
    lines = "\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items())
    parser = OptionParser(prog="%mlxnb", usage=USAGE, description=f"The engine and its models.\n\ncommands:\n{lines}")
    parser.add_argument("command", nargs="?", default="status", help=argparse.SUPPRESS)
    parser.add_argument("name", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--backend", metavar="NAME", help="load: auto, mlx or torch (default auto)")
    parser.add_argument("--dtype", metavar="TYPE", help="load: float32, bfloat16 or float16")
    return parser


@magics_class
class CommandMagics(Magics):
    """`%mlxnb`."""

    def __init__(self, shell: InteractiveShell, defaults: MLXNB) -> None:
        super().__init__(shell)
        self._parser = command_parser()
        self._defaults = defaults

    @no_var_expand
    @line_magic
    @one_line_errors
    def mlxnb(self, line: str) -> None:
        options = self._read(line)
        if options.help:
            print(self._parser.format_help())
        else:
            getattr(self, f"_{options.command}")(options)

    mlxnb.__doc__ = command_parser().format_help()

    def _read(self, line: str) -> argparse.Namespace:
        """The command and its options, checked.

        Raises:
            OptionError: an unknown command or option, or a name that is missing or too much.
        """
        words = []
        while line.strip():
            word, line = first_word(line.lstrip())
            words.append(word)
        options, extra = self._parser.parse_known_args(words)
        for word in extra:
            if word.startswith("-"):
                self._parser.action(word.partition("=")[0])
            raise OptionError(f"{word!r} is one word too many.", self._parser.see_help)
        if options.command not in COMMANDS:
            near = difflib.get_close_matches(options.command, COMMANDS, n=1)
            remedy = f"Did you mean {near[0]}?" if near else f"Commands are {', '.join(COMMANDS)}."
            raise OptionError(f"Unknown command {options.command}.", remedy)
        if (options.command in ("load", "unload")) != (options.name is not None) and not options.help:
            problem = "takes no name" if options.name else "needs a model's name"
            raise OptionError(f"%mlxnb {options.command} {problem}.", self._parser.see_help)
        return options

    def _status(self, options: argparse.Namespace) -> None:
        from .. import engine
        from .tables import status_table

        _show(status_table(engine().status()))

    def _models(self, options: argparse.Namespace) -> None:
        from .. import engine
        from ..models import find_models
        from .tables import models_table

        _show(models_table(find_models(), engine().models()))

    def _load(self, options: argparse.Namespace) -> None:
        from .loading import load
        from .tables import loaded_table

        backend = options.backend or self._defaults.backend
        _show(loaded_table([load(options.name, backend, options.dtype or self._defaults.dtype)], "Loaded"))

    def _unload(self, options: argparse.Namespace) -> None:
        from .. import engine
        from .tables import loaded_table

        _show(loaded_table(engine().unload(options.name), "Unloaded, memory given back"))

    def _config(self, options: argparse.Namespace) -> None:
        from ..config import settings
        from .tables import config_table

        _show(config_table(self._defaults, settings()))


def _show(table: Any) -> None:
    from IPython.display import display

    display(table)
