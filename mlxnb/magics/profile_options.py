"""The options of `%profile_model` and `%%profile_model`: those of every profile, and what only a notebook has."""

from __future__ import annotations

import argparse

from ..errors import OptionError
from ..profile_options import add_options, sort_words
from .line import read_words
from .options import OptionParser

USAGE = """\
%profile_model [MODEL …] [options]     where time and memory go, what limits them, what to do
%%profile_model [MODEL …] [options]    the same for one prompt, the cell's body
%profile_model --try N                 measure what the N-th finding of the last report advises"""
NOTES = """\
The value is a Report: it shows itself, and has to_json, to_markdown, to_frame, plots and save.
--prompts and --against take a variable of the notebook too. In the prompt and in option values,
{{ expression }} is replaced by its value. An interrupt keeps what was measured until then.
Defaults are those of %config MLXNB."""
# What may stand beside --try.
BESIDE_TRY = ("into", "try_finding")


class ProfileParser(OptionParser):
    """A parser that knows how the options of `%%generate` are given to a profile."""

    def action(self, name: str) -> argparse.Action:
        if name[:2] == "--" and name[2:].replace("-", "_") not in {each.dest for each in self._actions}:
            from ..profiling.runs.plan_values import as_sweep

            if hint := as_sweep(name):
                raise OptionError(f"Unknown option {name}.", hint)
        return super().action(name)


def profile_parser() -> OptionParser:
    """The parser of `%profile_model`."""
    parser = ProfileParser(
        prog="%profile_model",
        usage=USAGE,
        epilog=NOTES,
        description="Profile language models on this machine.",
    )
    add_options(parser)
    parser.add_argument("--into", metavar="NAME", help="put the Report into this variable")
    parser.add_argument(
        "--try", metavar="N", dest="try_finding", help="try the remedy of the N-th finding of the last report"
    )
    parser.add_argument("--no-interpolate", action="store_true", help="leave {{ }} as it is")
    return parser


def read(parser: OptionParser, line: str) -> argparse.Namespace:
    """The options of `line`, and in `models` the words beside them; further FIELD=VALUES after a --sweep belong to it.

    Raises:
        OptionError: an unknown option, a missing value, or options that do not go together.
    """
    options, words = read_words(parser, line)
    sort_words(options, words)
    if options.try_finding is not None:
        _check_alone(options, parser)
    return options


def finding_number(text: str) -> int:
    """The value of --try.

    Raises:
        OptionError: it is no whole number of at least 1.
    """
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise OptionError(f"--try is {text!r}.", "It takes the number of a finding, as the report counts them.")
    return int(text)


def _check_alone(options: argparse.Namespace, parser: OptionParser) -> None:
    """Refuse what says nothing beside --try."""
    if options.help:
        return
    given = [name for name, value in vars(options).items() if value not in (None, False, []) and name not in BESIDE_TRY]
    if given:
        beside = options.models[0] if given[0] == "models" else "--" + given[0].replace("_", "-")
        raise OptionError(f"{beside} says nothing beside --try, which takes the last report.", parser.see_help)
