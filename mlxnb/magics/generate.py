"""The magic behind `%generate` and `%%generate`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, needs_local_scope, no_var_expand

from ..errors import EmptyAnswerError, GenerationError
from ..render.numbers import plural
from ..result import Result
from .call import fill_in, format_of, request_of
from .chats import Chats
from .defaults import MLXNB
from .fail import interrupted, one_line_errors
from .follow import follow, stop
from .line import read_line
from .options import generate_parser
from .place import Place
from .schema_option import schema_of
from .several import ask_several, check_several
from .shown import Shown

if TYPE_CHECKING:
    from ..request import Request
    from ..runtime import Job
    from ..runtime.batch import Answer


@magics_class
class GenerateMagics(Magics):
    """`%generate` and `%%generate`."""

    def __init__(self, shell: InteractiveShell, defaults: MLXNB, shown: Shown) -> None:
        super().__init__(shell)
        self._ip = shell
        self._parser = generate_parser()
        self._defaults, self._shown, self._chats = defaults, shown, Chats()

    # IPython would replace {x} and $x on the line only, and not in the body; `{{ x }}` works alike in both.
    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    @one_line_errors
    def generate(self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> Any:
        options, rest = read_line(self._parser, line, in_cell=cell is not None)
        if options.help:
            print(self._parser.format_help())
            return None
        names = {**self._ip.user_ns, **(local_ns or {})}
        prompt = fill_in(options, rest if cell is None else cell.removesuffix("\n"), names)
        schema = schema_of(options, names)
        kind = format_of(options, self._defaults, schema)
        request = request_of(options, prompt, self._defaults, self._chats, schema)
        if check_several(options):
            return self._several(request, options, kind)
        result = self._run(request, options, kind)
        self._settle(result, request, options)
        if kind == "code" and not options.quiet:
            self._offer_code(result)
        return result

    generate.__doc__ = generate_parser().format_help()

    def _run(self, request: Request, options: argparse.Namespace, kind: str) -> Result:
        """Generate and show; an interrupt keeps and shows what there is, and then ends the cell."""
        from .. import engine

        with Place(kind, request.model, stream=not options.no_stream, quiet=options.quiet) as place:
            job = engine().submit(request)
            try:
                result = follow(job, place)
            except KeyboardInterrupt:
                raise self._stopped(job, place, options) from None
            except GenerationError as error:
                if error.partial is not None:
                    place.finish(error.partial)
                raise
            place.finish(result)
        self._shown.add(result)
        return result

    def _several(self, request: Request, options: argparse.Namespace, kind: str) -> list[Answer]:
        """Ask for several answers and show them; where none came of it, the first of their errors ends the cell."""
        answers, whole = ask_several(request, options, kind)
        self._keep(answers, options.into)
        if not whole:
            kept = f"; what there is of them is in `{options.into or '_'}`" if answers else ""
            raise interrupted(f"stopped at {plural(len(answers), 'answer')}{kept}.")
        self._shown.add(answers)
        if not any(isinstance(answer, Result) for answer in answers):
            raise next(answer for answer in answers if not isinstance(answer, Result))
        return answers

    def _stopped(self, job: Job, place: Place, options: argparse.Namespace) -> KeyboardInterrupt:
        """Keep and show the partial answer; the error to end the cell with."""
        result = stop(job)
        if result is None:
            return interrupted("stopped without an answer; what the engine was doing ends in the background.")
        place.finish(result)
        self._keep(result, options.into)
        count = plural(result.generation_tokens, "token")
        return interrupted(f"stopped after {count}; the partial answer is in `{options.into or '_'}`.")

    def _settle(self, result: Result, request: Request, options: argparse.Namespace) -> None:
        """Put a finished answer where it belongs."""
        if options.into:
            self._keep(result, options.into)
        if not result.text.strip() and not result.thinking and result.finish_reason == "stop":
            raise EmptyAnswerError(
                "The model ended its turn without a word.", "Reword the prompt, or try a higher --temperature."
            )
        if options.chat:
            self._chats.answered(options.chat, request.messages, result)

    def _keep(self, result: Result | list[Answer], name: str | None) -> None:
        if name:
            self._ip.push({name: result})
        else:
            self._ip.displayhook.update_user_ns(result)

    def _offer_code(self, result: Result) -> None:
        from ..render.formats import code_in

        if code := code_in(result.text):
            self._ip.set_next_input(code)
