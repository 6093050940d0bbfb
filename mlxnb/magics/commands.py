"""`%mlxnb`: what the engine holds, loading and unloading models, and the settings."""

from __future__ import annotations

import argparse
import difflib
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand

from ..conversion import add_options, check_belonging
from ..errors import OptionError
from ..panel_names import PANELS
from ..request import FOREVER
from .chat_line import check_chat
from .defaults import MLXNB
from .fail import one_line_errors
from .history import History
from .options import NONE, OptionParser
from .subcommand import read_command

if TYPE_CHECKING:
    from ..runtime.caches import Caches
    from ..runtime.standing import Standing

COMMANDS = {
    "status": "what the engine is doing, and the models in memory (also without a command)",
    "models": "the models on this machine, and whether they fit: %mlxnb models [--context N | --recommend [USE]]",
    "backends": "how each backend stands, and how fast: %mlxnb backends [MODEL] [--measure]",
    "ps": "the models in memory: how long they were idle, when they go, and which are pinned",
    "download": "fetch a model to keep: %mlxnb download NAME [--revision R]",
    "load": "load a model ahead of its first answer: %mlxnb load NAME [--pin] [--keep-alive SECONDS]",
    "unload": "give a model's memory back: %mlxnb unload NAME",
    "convert": "write a model in another format, quantised or not: %mlxnb convert NAME [TARGET]",
    "perplexity": "how well a model predicts a text: %mlxnb perplexity FILE|VARIABLE [-m MODEL]",
    "cache": "what the caches hold and were worth: %mlxnb cache [stats | clear | pin NAME | unpin NAME | where]",
    "pin": "keep the last prompt's KV state, also across restarts: %mlxnb pin NAME",
    "unpin": "let it go: %mlxnb unpin NAME",
    "chats": "the conversations of --chat, and how long each is",
    "chat": "one of them: %mlxnb chat NAME [undo | clear | fork NEW [--turn N] | save FILE | load FILE]",
    "panel": f"buttons over the engine: %mlxnb panel [{' | '.join(PANELS)}]",
    "doctor": "what this machine is, how fast, and what is missing: %mlxnb doctor [--again]",
    "history": "what was asked in this kernel, to ask again with %generate --last N",
    "config": "every setting, its value and where it came from",
}
USAGE = (
    "%mlxnb [status | models | backends [MODEL] | ps | download NAME | load NAME | unload NAME |"
    " convert NAME [TARGET] | perplexity FILE | cache [COMMAND] | pin NAME | unpin NAME |"
    " chats | chat NAME [COMMAND] | panel [NAME] | doctor | history | config] [options]"
)
MAY_NAME = ("backends", "panel")
PINNING = ("pin", "unpin")
NAMING = ("download", "load", "unload", "convert", "perplexity", "chat", *PINNING)
NEEDS = {**dict.fromkeys(PINNING, "needs a name"), "perplexity": "needs a file's or a variable's name"}
CACHE_COMMANDS = ("stats", "clear", "pin", "unpin", "where")


def command_parser() -> OptionParser:
    """The parser of `%mlxnb`."""
    lines = "\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items())
    parser = OptionParser(prog="%mlxnb", usage=USAGE, description=f"The engine and its models.\n\ncommands:\n{lines}")
    parser.add_argument("command", nargs="?", default="status", help=argparse.SUPPRESS)
    parser.add_argument("name", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("more", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("last", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument(
        "--backend",
        metavar="NAME",
        help="load, perplexity: auto, a backend, or several with commas (default auto)",
    )
    parser.add_argument("-m", "--model", metavar="NAME", help="perplexity: the model (default the one of %%config)")
    parser.add_argument("--dtype", metavar="TYPE", help="load, backends, perplexity: float32, bfloat16 or float16")
    kinds = "load, backends, perplexity: int8 or int4; none where %%config says otherwise; convert: bits, such as 4"
    parser.add_argument("--quantize", metavar="KIND", help=kinds)
    parser.add_argument(
        "--adapter", metavar="FOLDER", help="load, perplexity: a LoRA adapter on top, of mlx-lm or peft"
    )
    parser.add_argument("--strict", action="store_true", help="load: refuse what cannot be quantised as asked")
    parser.add_argument("--keep-alive", metavar="SECONDS", help=f"load: how long it stays when idle, or {FOREVER}")
    parser.add_argument("--pin", action="store_true", help="load: keep it when another model needs its memory")
    parser.add_argument("--no-pin", action="store_true", help="load: no longer")
    parser.add_argument("--revision", metavar="R", help="download: a branch, a tag or a commit")
    parser.add_argument("--context", metavar="N", help="models: the tokens that there should be room for")
    # The uses are spelled out: importing the package of models for them would make %load_ext slow.
    recommend = "models: what to take for chat, code, reasoning or drafting (default chat)"
    parser.add_argument("--recommend", metavar="USE", nargs="?", const="chat", help=recommend)
    parser.add_argument("--measure", action="store_true", help="backends: measure those that are ready")
    parser.add_argument("--turn", metavar="N", help="chat: fork with the first N turns (default all)")
    parser.add_argument("--again", action="store_true", help="doctor: measure the speeds anew")
    add_options(parser, "convert: ")
    return parser


@magics_class
class CommandMagics(Magics):
    """`%mlxnb`."""

    def __init__(self, shell: InteractiveShell, defaults: MLXNB, history: History) -> None:
        super().__init__(shell)
        self._parser = command_parser()
        self._defaults, self._asked = defaults, history

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
        options = read_command(self._parser, line, COMMANDS)
        if options.help:
            return options
        check_belonging(options)
        if options.command == "chat":
            return check_chat(options, self._parser.see_help)
        if options.turn is not None:
            raise OptionError(f"--turn says nothing to {options.command}.", "It belongs to chat NAME fork.")
        if options.last is not None:
            raise OptionError(f"{options.last!r} is one word too many.", self._parser.see_help)
        if options.model is not None and options.command != "perplexity":
            raise OptionError(f"--model says nothing to {options.command}.", "It belongs to perplexity.")
        if options.command == "cache":
            return self._cache_command(options)
        if options.more is not None and options.command != "convert":
            raise OptionError(f"{options.more!r} is one word too many.", self._parser.see_help)
        if options.command not in MAY_NAME and (options.command in NAMING) != (options.name is not None):
            needs = NEEDS.get(options.command, "needs a model's name")
            problem = "takes no name" if options.name else needs
            raise OptionError(f"%mlxnb {options.command} {problem}.", self._parser.see_help)
        return options

    def _cache_command(self, options: argparse.Namespace) -> argparse.Namespace:
        """`cache pin NAME` and `cache unpin NAME` are long for `pin NAME` and `unpin NAME`."""
        options.what = options.name or "stats"
        if options.what not in CACHE_COMMANDS:
            near = difflib.get_close_matches(options.what, CACHE_COMMANDS, n=1)
            remedy = f"Did you mean {near[0]}?" if near else f"It takes {', '.join(CACHE_COMMANDS)}."
            raise OptionError(f"Unknown cache command {options.what}.", remedy)
        if (options.what in PINNING) != (options.more is not None):
            problem = "takes no name" if options.more else "needs a name"
            raise OptionError(f"%mlxnb cache {options.what} {problem}.", self._parser.see_help)
        if options.what in PINNING:
            options.command, options.name = options.what, options.more
        return options

    def _status(self, options: argparse.Namespace) -> None:
        from .. import engine
        from .tables import status_table

        _show(status_table(engine().status()))

    def _models(self, options: argparse.Namespace) -> None:
        from .models import show_models

        show_models(options.context, options.recommend)

    def _ps(self, options: argparse.Namespace) -> None:
        from .models import show_memory

        show_memory()

    def _download(self, options: argparse.Namespace) -> None:
        from .models import download

        download(options.name, options.revision)

    def _backends(self, options: argparse.Namespace) -> None:
        from .. import engine
        from ..render.backends import backends_table, recommendations_table
        from .background import Steps, in_a_cell

        model, quantize = options.name or self._defaults.model, options.quantize or self._defaults.quantize
        how = {
            "dtype": options.dtype or self._defaults.dtype,
            "quantize": None if quantize == NONE else quantize,
            "measure": options.measure,
        }

        def work(steps: Steps) -> list[Standing]:
            return engine().backends_table(model, progress=steps.report, **how)

        _show(backends_table(in_a_cell(f"Measuring {model}", work) if options.measure else work(Steps()), model))
        found = engine().setup_recommendations(model)
        if found:
            _show(recommendations_table(found))

    def _load(self, options: argparse.Namespace) -> None:
        from .loading import load
        from .tables import loaded_table, notes_table

        backend = options.backend or self._defaults.backend
        dtype, quantize = options.dtype or self._defaults.dtype, options.quantize or self._defaults.quantize
        quantize, pin = None if quantize == NONE else quantize, _pinned(options)
        adapter = options.adapter or self._defaults.adapter
        adapter = None if adapter == NONE else adapter
        info = load(options.name, backend, dtype, quantize, options.strict, options.keep_alive, pin, adapter)
        _show(loaded_table([info], "Loaded"))
        if info.notes:
            _show(notes_table(info))

    def _unload(self, options: argparse.Namespace) -> None:
        from .. import engine
        from .tables import loaded_table

        _show(loaded_table(engine().unload(options.name), "Unloaded, memory given back"))

    def _convert(self, options: argparse.Namespace) -> None:
        from ..render.conversion import conversion_tables
        from .converting import convert

        for table in conversion_tables(convert(options.name, options.more, options)):
            _show(table)

    def _panel(self, options: argparse.Namespace) -> None:
        from IPython.display import display

        from .. import panel

        display(panel(options.name or "playground"))

    def _perplexity(self, options: argparse.Namespace) -> None:
        from .perplexity import measured

        _show(measured(options, self._defaults, self.shell.user_ns if self.shell is not None else {}))

    def _cache(self, options: argparse.Namespace) -> None:
        from .cache_plot import hit_rate_plot
        from .cache_tables import cache_tables, cleared_table, where_table

        cache = _caches()
        if options.what == "clear":
            return _show(cleared_table(cache.clear()))
        stats = cache.stats()
        for shown in [where_table(stats)] if options.what == "where" else cache_tables(stats):
            _show(shown)
        rates = {kind: cache.hit_rates(kind) for kind in ("result", "prefix")}
        if options.what == "stats" and any(len(points) > 1 for points in rates.values()):
            _show(hit_rate_plot(rates))

    def _pin(self, options: argparse.Namespace) -> None:
        from .cache_tables import pin_table

        _show(pin_table(_caches().pin(options.name)))

    def _unpin(self, options: argparse.Namespace) -> None:
        from .cache_tables import pin_table

        _show(pin_table(_caches().unpin(options.name)))

    def _chats(self, options: argparse.Namespace) -> None:
        from .. import engine
        from ..render.chats import chats_table

        _show(chats_table(engine().chats))

    def _chat(self, options: argparse.Namespace) -> None:
        from .chatting import on_chat

        _show(on_chat(options))

    def _doctor(self, options: argparse.Namespace) -> None:
        from ..doctor import diagnose
        from ..render.doctor import doctor_tables
        from .background import in_a_cell

        for table in doctor_tables(in_a_cell("Measuring this machine", lambda steps: diagnose(options.again))):
            _show(table)

    def _history(self, options: argparse.Namespace) -> None:
        from .history_table import history_table

        _show(history_table(self._asked))

    def _config(self, options: argparse.Namespace) -> None:
        from ..config import settings
        from .tables import config_table

        _show(config_table(self._defaults, settings()))


def _pinned(options: argparse.Namespace) -> bool | None:
    if options.pin and options.no_pin:
        raise OptionError("There are both --pin and --no-pin.", "Give one.")
    return True if options.pin else False if options.no_pin else None


def _caches() -> Caches:
    """The engine's caches.

    Raises:
        OptionError: it has none.
    """
    from .. import engine

    caches = engine().cache
    if caches is None:
        raise OptionError("This engine keeps nothing.", "It was made with caching=False.")
    return caches


def _show(table: Any) -> None:
    from IPython.display import display

    display(table)
