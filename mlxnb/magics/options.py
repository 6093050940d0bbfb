"""The options of `%%generate`, declared once: parsing, help, the docstring and tab completion all read them here."""

from __future__ import annotations

import argparse
import difflib
import sys
from typing import Any, NoReturn

from ..errors import OptionError
from ..request import CACHE_MODES, FOREVER, LOOKUP, THINK, option_fields

FORMATS = ("markdown", "text", "code", "json", "html", "logprobs")

# Options with a number that may be left out, and what they are then.
ALONE = {"logprobs": "5"}
DEFAULT_CHAT = "chat"
NONE = "none"  # what undoes a default of %config for one cell
USAGE = """\
%%generate [options] [NAME <<]        the cell's body is the prompt
%generate [options] [NAME <<] PROMPT  the rest of the line is the prompt
%%generate [options] [NAME <<] @FILE  the file is the prompt, and the cell's body follows it; also with %generate
%generate --last[=N] [options]        the last request again, or number N of %mlxnb history"""
NOTES = """\
In the prompt and in option values, {{ expression }} is replaced by its value (Jinja2, sandboxed, over the notebook's
variables). Single braces and $ are just text. Options come first, -- ends them, and each may be spelled with - or _.
A file's {% for %}, {% if %} and {% include "FILE" %} (a file beside it) are templates too; a file reaches the
notebook's values and own functions, no modules. A prompt that begins with @ is written with @@.
On a %generate line what an option may do without follows a =, as in --chat=NAME. `NAME <<` is short for --into NAME.
Defaults are set with %config MLXNB, for example %config MLXNB.temperature = 0.7"""


class OptionParser(argparse.ArgumentParser):
    """An argparse parser that raises OptionError, and never prints or leaves the process by itself."""

    def __init__(self, usage: str, **kwargs: Any) -> None:
        if sys.version_info >= (3, 14):
            kwargs.setdefault("color", False)
        # argparse reads % in the usage as a format, and every name here begins with one.
        super().__init__(
            add_help=False,
            allow_abbrev=False,
            formatter_class=_Layout,
            usage=usage.replace("%", "%%").replace("\n", "\n       "),
            **kwargs,
        )
        self.add_argument("-h", "--help", action="store_true", help="show this text")

    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message[:1].upper()}{message[1:]}.", self.see_help)

    @property
    def see_help(self) -> str:
        """Where a person reads on, as one sentence."""
        return f"See {self.prog} --help."

    def action(self, name: str) -> argparse.Action:
        """The option that goes by `name`, with `-` or `_` between its words.

        Raises:
            OptionError: there is none; the message offers the nearest name.
        """
        known = self._option_string_actions
        spelled = name[:2] + name[2:].replace("_", "-") if name.startswith("--") else name
        if spelled in known:
            return known[spelled]
        near = difflib.get_close_matches(spelled, known, n=1)
        raise OptionError(f"Unknown option {name}.", f"Did you mean {near[0]}?" if near else self.see_help)

    def options(self) -> dict[str, argparse.Action]:
        """Every option by each of its spellings."""
        return dict(self._option_string_actions)


class _Layout(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=110)


def generate_parser() -> OptionParser:
    """The parser of `%generate` and `%%generate`; the sampling options come from the fields of a Request."""
    parser = OptionParser(
        prog="%generate", usage=USAGE, epilog=NOTES, description="Ask a language model, and see it answer."
    )
    sampling = parser.add_argument_group("sampling")
    for name, field in option_fields().items():
        default = "" if field.default is None else f" (default {field.default:g})"
        metavar = "N" if field.metadata["kind"] is int else "X"
        alone: dict[str, Any] = {"nargs": "?", "const": ALONE[name]} if name in ALONE else {}
        default = f" (alone {ALONE[name]})" if alone else default
        sampling.add_argument(flag(name), metavar=metavar, help=field.metadata["help"] + default, **alone)
    sampling.add_argument(
        "--stop", metavar="TEXT", action="append", help=r"end before this text; may be repeated; \n is a new line"
    )
    _add_model(parser.add_argument_group("model"))
    _add_prompt(parser.add_argument_group("prompt"))
    _add_tools(parser.add_argument_group("tools"))
    _add_several(parser.add_argument_group("several answers"))
    _add_output(parser.add_argument_group("output"))
    return parser


def flag(name: str) -> str:
    """The option on the line for a field of a Request."""
    return "--" + name.replace("_", "-")


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-m", "--model", metavar="NAME", help="pocket, a folder, a local name or a Hugging Face id")
    group.add_argument(
        "--backend", metavar="NAME", help="auto, a backend, or several with commas between (default auto)"
    )
    group.add_argument("--dtype", metavar="TYPE", help="float32, bfloat16 or float16, where the backend offers it")
    group.add_argument(
        "--quantize",
        metavar="KIND",
        help="int8 or int4: load the weights in so many bits; none where %%config says otherwise",
    )
    group.add_argument("--adapter", metavar="FOLDER", help="a LoRA adapter on top of the model, of mlx-lm or peft")
    group.add_argument(
        "--draft", metavar="NAME", help=f"speculative decoding: a smaller model of the same vocabulary, or {LOOKUP}"
    )
    group.add_argument(
        "--cache", metavar="MODE", help=f"{', '.join(CACHE_MODES)}: use and keep finished answers and KV states"
    )
    group.add_argument(
        "--keep-alive", metavar="SECONDS", help=f"how long the model stays in memory after the answer, or {FOREVER}"
    )
    group.add_argument("--strict", action="store_true", help="fail where a path that was asked for is not taken")


def _add_prompt(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--system", metavar="TEXT", help="a system message before the prompt")
    group.add_argument(
        "--chat", metavar="NAME", nargs="?", const=DEFAULT_CHAT, help="go on with a conversation (default name: chat)"
    )
    group.add_argument(
        "--think",
        metavar="HOW",
        help=f"{', '.join(THINK)}, or how many tokens a thinking model may think before it answers",
    )
    group.add_argument(
        "--last", metavar="N", nargs="?", const="", help="ask the last request again, or number N of %%mlxnb history"
    )
    group.add_argument(
        "--each",
        metavar="ROWS",
        help="ask for every row of a column, frame or list, such as df.question; {{ row }} in the prompt is the row, "
        "{{ row.x }} its column x; without a prompt the row is the prompt",
    )
    group.add_argument("--fresh", action="store_true", help="with --each: begin anew, also rows that were answered")
    group.add_argument(
        "--overflow",
        metavar="KIND",
        help="what becomes of a conversation that the context does not hold: error, drop its oldest turns, or summarise"
        " them (default error)",
    )
    group.add_argument("--raw", action="store_true", help="send the prompt as it is, without the chat template")
    group.add_argument("--no-interpolate", action="store_true", help="leave {{ }} as it is")


def _add_tools(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--tool", metavar="NAME", action="append", help="offer this annotated function to the model; may be repeated"
    )
    group.add_argument(
        "--allow", metavar="NAME", action="append", help="run what the model calls of this function without asking"
    )
    group.add_argument("--rounds", metavar="N", help="rounds of calls before the answer, at most (default 5)")


def _add_several(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--n", metavar="N", help="draw N samples in one batch, with the seeds SEED, SEED+1, …")
    group.add_argument(
        "--compare",
        metavar="AXIS",
        help="ask once for each value and show the answers side by side: MODEL,MODEL or OPTION=VALUE,VALUE, "
        "such as temperature=0,0.7",
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--into",
        metavar="NAME",
        help="put the Result, or the list of several, into this variable; with --each also a column, such as df.answer",
    )
    group.add_argument("--format", metavar="KIND", help=f"{', '.join(FORMATS)} (default markdown)")
    group.add_argument(
        "--schema",
        metavar="NAME",
        help="keep the answer to what a variable holds: a pydantic model, a dataclass, a JSON schema, a regular "
        "expression or a list of choices; .parsed of the Result is the value",
    )
    group.add_argument(
        "--schema-in-prompt", action="store_true", help="write the schema after the prompt too, for the model to read"
    )
    group.add_argument("--quiet", action="store_true", help="show nothing, only give back the Result")
    group.add_argument("--no-stream", action="store_true", help="show the answer once, when it is finished")
