"""Tab completion on the lines of every magic."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from ..conversion import GROUPS, KINDS, RECIPES
from ..errors import MlxnbError
from ..panel_names import PANELS
from ..request import CACHE_MODES, FOREVER, KV_BITS, LOOKUP, QUANTIZE, THINK
from . import commands, kernel_options
from .chat_line import CHAT_COMMANDS
from .metal_kernel import metal_parser
from .options import FORMATS, NONE, OptionParser, generate_parser
from .profile_options import profile_parser
from .prompt_file import beginning_with, paths
from .variables import columns_of, notebook_names, rowlike

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

# A prompt on the line ends with the cursor like anything else; what comes before the magic's name is an assignment.
MAGIC = re.compile(
    r"\s*(?:[^%=]+=\s*)?(?P<name>%generate|%%generate|%%metal_kernel|%mlxnb|%patch_kernels|%profile_model|%%profile_model)\s+(?P<rest>.*)",
    re.DOTALL,
)
PARSERS: dict[str, Callable[[], OptionParser]] = {
    "generate": generate_parser,
    "metal_kernel": metal_parser,
    "mlxnb": commands.command_parser,
    "patch_kernels": kernel_options.kernels_parser,
    "profile_model": profile_parser,
}
# Magics whose first word is a command, and the commands that a model's name follows.
COMMANDS: dict[str, Iterable[str]] = {"mlxnb": commands.COMMANDS, "patch_kernels": kernel_options.COMMANDS}
NAMING = ("load", "unload", "convert")
# Magics whose line names models beside its options, and options that take several values with commas between.
OF_MODELS = ("profile_model",)
LISTS = ("backend", "kv_bits", "quantize", "scenario", "slo")
OVERFLOWS = ("error", "drop", "summarise")  # spelled out: importing the engine for them would make %load_ext slow


def model_names() -> list[str]:
    """Models that are on this machine, and those in memory."""
    from .. import engine
    from ..models import find_models

    try:
        here = [source.name for source in find_models()]
    except MlxnbError:  # the folder of local models is away; what is loaded can still be named
        here = []
    return sorted({*here, *(info.name for info in engine().models())})


def backend_names() -> list[str]:
    """What `--backend` takes."""
    from .. import engine

    return ["auto", *engine().backends]


def scenarios() -> Iterable[str]:
    """What `--scenario` takes."""
    from ..profiling.runs.scenarios import NAMES

    return NAMES


def fields_to_sweep(begun: str = "") -> list[str]:
    """What `--sweep` takes: the fields, and behind the = of one its values where they are known."""
    from ..profiling.runs.plan_values import SWITCHES, sweepable

    field, equals, given = begun.partition("=")
    if not equals:
        return [f"{name}=" for name in sweepable()]
    field = field.replace("-", "_")
    values = VALUES.get(field, tuple) if field in sweepable() else tuple
    return _listed(("on", "off") if field in SWITCHES else values(), given, begun[: len(begun) - len(given)])


def _listed(values: Iterable[str], given: str, before: str = "") -> list[str]:
    """Values for the last place of a list with commas, but for those that are in it already."""
    head = given[: given.rfind(",") + 1]
    return [f"{before}{head}{each}" for each in values if each not in head.split(",")]


def chat_names() -> list[str]:
    """The conversations, in quotes where a name is more than a word."""
    from .. import engine

    return [name if len(name.split()) == 1 else f'"{name}"' for name in engine().chats]


def places_of_rows(begun: str) -> Iterable[str]:
    """What `--each` takes: variables that hold rows, and the columns of one that is begun with its dot."""
    names = notebook_names()
    return columns_of(names, begun) or rowlike(names)


def places_of_answers(begun: str) -> Iterable[str]:
    """What `--into` takes: variables that are data, and the columns of a frame that is begun with its dot."""
    names = notebook_names()
    data = [name for name, value in names.items() if not (callable(value) or isinstance(value, ModuleType))]
    return columns_of(names, begun) or data


def functions(begun: str) -> Iterable[str]:
    """What `--tool` and `--allow` take: the notebook's functions."""
    return [name for name, value in notebook_names().items() if inspect.isroutine(value)]


def uses() -> Iterable[str]:
    """What `--recommend` takes."""
    from ..models.uses import USES

    return USES


# Options whose value is a folder, which is completed as a path; beside the names that they take.
FOLDERS = {"adapter": (NONE,)}

VALUES: dict[str, Callable[[], Iterable[str]]] = {
    "model": model_names,
    "draft": lambda: [LOOKUP, *model_names()],
    "backend": backend_names,
    "chat": chat_names,
    "overflow": lambda: OVERFLOWS,
    "format": lambda: FORMATS,
    "cache": lambda: CACHE_MODES,
    "kv_bits": lambda: map(str, KV_BITS),
    "dtype": lambda: ("float32", "bfloat16", "float16"),
    "quantize": lambda: (*QUANTIZE, NONE),
    "keep_alive": lambda: (FOREVER,),
    "think": lambda: (*THINK, NONE),
    "recommend": uses,
    "to": lambda: KINDS,
    "mixed": lambda: RECIPES,
    "group_size": lambda: map(str, GROUPS),
    "scenario": scenarios,
    "sweep": fields_to_sweep,
    "stress": lambda: ("settled",),
    "slo": lambda: ("ttft=", "tpot=", "total="),
}


# What is in the notebook, by what is begun of it.
NAMES: dict[str, Callable[[str], Iterable[str]]] = {
    "each": places_of_rows,
    "into": places_of_answers,
    "tool": functions,
    "allow": functions,
}


@context_matcher(identifier="mlxnb")
def matcher(context: CompletionContext) -> SimpleMatcherResult:
    """IPython's matcher. Where it knows what fits, nothing else is offered: no file names, no Python names."""
    found = MAGIC.fullmatch(context.text_until_cursor)
    if found is None or (found["name"].startswith("%%") and context.cursor_line > 0):
        return {"completions": []}
    words = found["rest"].split()
    word = "" if not words or found["rest"][-1].isspace() else words.pop()
    magic = found["name"].lstrip("%")
    candidates, begun = (_commands if magic in COMMANDS else _options)(magic, words, word)
    fitting = [SimpleCompletion(each, type="param") for each in candidates if each.startswith(begun)]
    return {"completions": fitting, "suppress": bool(fitting), "matched_fragment": begun, "ordered": True}


def _commands(magic: str, before: list[str], word: str) -> tuple[Iterable[str], str]:
    """What may stand at `word` after a command, or as one, and how much of it is there."""
    if not before:
        return COMMANDS[magic], word
    candidates, begun = _after_dash(PARSERS[magic](), before, word)
    if magic == "mlxnb" and before[0] == "chat" and not candidates:
        return (chat_names(), word) if len(before) == 1 else (CHAT_COMMANDS if len(before) == 2 else (), word)
    if magic == "mlxnb" and before[0] == "panel" and not candidates:
        return (PANELS if len(before) == 1 else ()), word
    return (model_names(), word) if not candidates and before[-1] in NAMING else (candidates, begun)


def _options(magic: str, before: list[str], word: str) -> tuple[Iterable[str], str]:
    """The same where there are options only; an empty line offers them."""
    parser = PARSERS[magic]()
    if magic == "generate" and word.startswith("@"):
        return beginning_with(word), word
    if not before and not word:
        return [*(model_names() if magic in OF_MODELS else ()), *parser.options()], word
    candidates, begun = _after_dash(parser, before, word)
    if candidates or magic not in OF_MODELS or _takes_value(parser, before):
        return candidates, begun
    if "--sweep" in before and "=" in word:
        return fields_to_sweep(word), word
    return [*model_names(), *(fields_to_sweep() if "--sweep" in before else ())], word


def _after_dash(parser: OptionParser, before: list[str], word: str) -> tuple[Iterable[str], str]:
    """Options where one is being typed, or what the option before the cursor takes; nothing where that is free text."""
    name, equals, value = word.partition("=") if word.startswith("-") else ("", "", "")
    if word.startswith("-") and not equals:
        return parser.options(), word
    action = parser.options().get(name if equals else (before or [""])[-1])
    begun = value if equals else word
    if action is not None and action.dest in FOLDERS:
        return [*FOLDERS[action.dest], *paths(begun, folders=True)], begun
    if action is not None and action.dest in NAMES:
        return NAMES[action.dest](begun), begun
    values = VALUES.get(action.dest) if action is not None else None
    if values is None or action is None:
        return (), begun
    if action.dest == "sweep":
        return fields_to_sweep(begun), begun
    return _listed(values(), begun) if action.dest in LISTS else list(values()), begun


def _takes_value(parser: OptionParser, before: list[str]) -> bool:
    """Whether the word before the cursor is an option that waits for its value."""
    action = parser.options().get(before[-1]) if before else None
    return action is not None and action.nargs != 0


def install(shell: InteractiveShell) -> None:
    """Have the shell's completer ask this matcher too."""
    shell.Completer.custom_matchers.append(matcher)


def uninstall(shell: InteractiveShell) -> None:
    """Have it ask this matcher no longer."""
    shell.Completer.custom_matchers.remove(matcher)
