"""A turn of a conversation in a cell: the functions that it offers, what it shows of them, and whom it asks."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from ..request import Request, check_option
from ..result import Result
from ..tools import ToolCall

if TYPE_CHECKING:
    from ..runtime.exchange import Finish, Terms

YES = ("y", "yes")
SHOWN = 300  # characters of a call in a question


def terms_of(options: argparse.Namespace, names: Mapping[str, Any]) -> Terms:
    """What a line says of tools and of a context that is full.

    Raises:
        OptionError: a function that is not there or cannot be a tool, or an option that says nothing here.
    """
    from ..runtime.exchange import ERROR, ROUNDS, ROUNDS_TAKES, Terms
    from ..toolbox import named, of_notebook

    if options.chat is not None and not options.chat.strip():
        raise OptionError(f"--chat is {options.chat!r}.", "It takes a conversation's name, such as trip.")
    if options.overflow is not None and not options.chat:
        raise OptionError("--overflow says nothing without a conversation.", "Give --chat too.")
    if options.rounds is not None and not options.tool:
        raise OptionError("--rounds says nothing without a tool.", "Give --tool NAME too.")
    offered = {name: of_notebook(name, names) for name in options.tool or ()}
    tools = named(offered.values())
    # A function may go by another name here than by its own, which is what the model calls.
    own = {name: function.__name__ for name, function in offered.items()}
    rounds = ROUNDS if options.rounds is None else check_option("rounds", _number(options.rounds), ROUNDS_TAKES)
    return Terms(
        options.overflow or ERROR, tools, frozenset(own.get(name, name) for name in options.allow or ()), int(rounds)
    )


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


class CellFront:
    """See Front: a cell that shows each step. `run` generates and shows one answer."""

    def __init__(self, run: Callable[[Request, Finish], Result], *, quiet: bool) -> None:
        self._run, self._quiet = run, quiet
        self._handle: Any = None

    def answer(self, request: Request, finish: Finish) -> Result:
        """See Front.answer."""
        return self._run(request, finish)

    def summarised(self, result: Result, turns: int) -> None:
        """See Front.summarised."""
        from ..render.tools import summary_bundle

        self._show(summary_bundle(result, turns))

    def allows(self, call: ToolCall) -> bool:
        """See Front.allows. A cell that nobody can answer, as in a notebook that is run by a program, asks nobody."""
        from IPython.core.error import StdinNotImplementedError

        from ..render.text import one_row
        from ..runtime.exchange import unasked

        written = one_row(call.written())
        written = written if len(written) <= SHOWN else written[: SHOWN - 1] + "…"
        try:
            said = input(f"The model wants to call {written}. Run it? [y/N] ")
        except (EOFError, OSError, StdinNotImplementedError):  # pytest and programs have no stdin to read
            raise unasked(call, f"Nobody can be asked here: pass --allow {call.name}.") from None
        return said.strip().lower() in YES

    def calling(self, call: ToolCall) -> None:
        """See Front.calling."""
        from ..render.tools import calling_bundle

        self._handle = self._show(calling_bundle(call))

    def called(self, call: ToolCall) -> None:
        """See Front.called."""
        from ..render.tools import called_bundle

        handle, self._handle = self._handle, None
        if handle is not None:
            handle.update(called_bundle(call), raw=True)
        else:
            self._show(called_bundle(call))

    def _show(self, bundle: dict[str, str]) -> Any:
        from IPython.display import display

        return None if self._quiet else display(bundle, raw=True, display_id=True)
