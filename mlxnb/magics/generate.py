"""The magic behind `%generate` and `%%generate`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, needs_local_scope, no_var_expand

from ..errors import EmptyAnswerError, GenerationError, OptionError
from ..render.numbers import plural
from ..result import Result
from . import prompt_file
from .call import fill_in, format_of, refuse_alone, request_of, talk_of
from .defaults import MLXNB
from .fail import interrupted, one_line_errors
from .follow import follow, stop
from .history import Asked, History, again
from .line import read_line
from .options import generate_parser
from .place import Place
from .schema_option import schema_of
from .several import Several, check_several
from .shown import Shown
from .turn import CellFront, terms_of

if TYPE_CHECKING:
    from ..conversation import Conversation
    from ..request import Request
    from ..runtime import Job
    from ..runtime.batch import Answer
    from ..runtime.chats import Chats
    from ..runtime.exchange import Finish, Terms
    from ..schema import Schema
    from .each import Answers


@magics_class
class GenerateMagics(Magics):
    """`%generate` and `%%generate`."""

    def __init__(self, shell: InteractiveShell, defaults: MLXNB, shown: Shown, history: History) -> None:
        super().__init__(shell)
        self._ip = shell
        self._parser = generate_parser()
        self._defaults, self._shown, self._history = defaults, shown, history

    # IPython would replace {x} and $x on the line only, and not in the body; `{{ x }}` works alike in both.
    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    @one_line_errors
    def generate(self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> Any:
        options, rest = read_line(self._parser, line, in_cell=cell is not None, file=prompt_file.named_in)
        if options.help:
            print(self._parser.format_help())
            return None
        names = {**self._ip.user_ns, **(local_ns or {})}
        if options.each is not None:
            return self._each(options, rest if cell is None else cell.removesuffix("\n"), names)
        refuse_alone(options)
        prompt = fill_in(options, rest if cell is None else cell.removesuffix("\n"), names)
        if options.prompt_file is not None:
            prompt = prompt_file.read(options.prompt_file, names, prompt, options.no_interpolate)
        schema = schema_of(options, names)
        terms = terms_of(options, names)
        format_of(options, self._defaults, schema)  # a format may ask for more of the request
        request = self._request(options, prompt, schema, terms)
        if options.logprobs is None and request.logprobs is not None:
            options.logprobs = str(request.logprobs)  # of the request that --last asks again, which was shown so
        kind = format_of(options, self._defaults, request.schema)
        several = Several.of(request, options) if check_several(options) else None
        asked = self._history.add(request)
        if several is not None:
            return self._several(several, options, kind, asked)
        if options.chat or terms.tools:
            talk = talk_of(options, prompt, self._defaults, self._chats, schema)
            result = self._converse(request, talk, options, kind, terms, asked)
        else:
            result = self._run(request, options, kind, asked)
        self._settle(result, options)
        if kind == "code" and not options.quiet:
            self._offer_code(result)
        return result

    generate.__doc__ = generate_parser().format_help()

    def _request(self, options: argparse.Namespace, prompt: str, schema: Schema | None, terms: Terms) -> Request:
        if options.last is not None:
            if terms.tools:
                raise OptionError("--tool cannot go with --last.", "Ask again in words, with --tool.")
            return again(self._history.request(options.last), options, prompt, schema)
        return request_of(options, prompt, self._defaults, self._chats, schema, terms.tools.values())

    def _each(self, options: argparse.Namespace, body: str, names: dict[str, Any]) -> Answers:
        """Ask for every row; an interrupt keeps what is answered, and then ends the cell."""
        from .each import TableCell

        fill_in(options, "", names)
        schema = schema_of(options, names)
        format_of(options, self._defaults, schema)  # refused where it is wrong, though rows are shown as a table
        table = TableCell(options, body, names, self._ip.push)
        shown = body if body.strip() else f"--each {options.each}"
        asked = self._history.add(request_of(options, shown, self._defaults, self._chats, schema), table=True)
        answers = table.run(lambda prompt: request_of(options, prompt, self._defaults, self._chats, schema))
        asked.came_to_several(answers)
        if options.quiet:
            self._shown.add(answers)
        if not table.whole:
            if not options.into:
                self._ip.displayhook.update_user_ns(answers)
            raise interrupted(table.stopped())
        return answers

    @property
    def _chats(self) -> Chats:
        """The conversations, which are the engine's."""
        from .. import engine

        return engine().chats

    def _converse(
        self,
        request: Request,
        talk: Conversation,
        options: argparse.Namespace,
        kind: str,
        terms: Terms,
        asked: Asked,
    ) -> Result:
        """Ask in a conversation, and show what leads to the answer; without a name in one that nobody keeps."""
        from ..runtime.chats import Chat

        chat = self._chats.open(options.chat) if options.chat else Chat(self._chats, "this cell")
        front = CellFront(lambda step, finish: self._run(step, options, kind, asked, finish), quiet=options.quiet)
        return chat.take(talk, request, terms, front)

    def _run(
        self, request: Request, options: argparse.Namespace, kind: str, asked: Asked, finish: Finish = lambda r: r
    ) -> Result:
        """Generate and show what `finish` makes of the answer, if anything; an interrupt keeps and shows what there is,
        and then ends the cell. `asked` is the cell's place in the history, of which this may be one step.
        """
        from .. import engine

        with Place(kind, request.model, stream=not options.no_stream, quiet=options.quiet) as place:
            job = engine().submit(request)
            try:
                result = follow(job, place)
            except KeyboardInterrupt:
                raise self._stopped(job, place, options, asked, finish) from None
            except GenerationError as error:
                if error.partial is not None:
                    place.finish(error.partial)
                raise
            asked.came_to(result)
            shown = finish(result)
            if shown is None:
                return result
            place.finish(shown)
        self._shown.add(shown)
        return shown

    def _several(self, several: Several, options: argparse.Namespace, kind: str, asked: Asked) -> list[Answer]:
        """Ask for several answers and show them; where none came of it, the first of their errors ends the cell."""
        answers, whole = several.ask(options, kind)
        asked.came_to_several(answers)
        self._keep(answers, options.into)
        if not whole:
            kept = f"; what there is of them is in `{options.into or '_'}`" if answers else ""
            raise interrupted(f"stopped at {plural(len(answers), 'answer')}{kept}.")
        self._shown.add(answers)
        if not any(isinstance(answer, Result) for answer in answers):
            raise next(answer for answer in answers if not isinstance(answer, Result))
        return answers

    def _stopped(
        self, job: Job, place: Place, options: argparse.Namespace, asked: Asked, finish: Finish
    ) -> KeyboardInterrupt:
        """Keep and show the partial answer; the error to end the cell with."""
        result = stop(job)
        if result is None:
            return interrupted("stopped without an answer; what the engine was doing ends in the background.")
        asked.came_to(result)
        result = finish(result) or result
        place.finish(result)
        self._keep(result, options.into)
        count = plural(result.generation_tokens, "token")
        talk = f" The conversation {options.chat} is as it was." if options.chat else ""
        return interrupted(f"stopped after {count}; the partial answer is in `{options.into or '_'}`.{talk}")

    def _settle(self, result: Result, options: argparse.Namespace) -> None:
        """Put a finished answer where it belongs."""
        if options.into:
            self._keep(result, options.into)
        if not result.text.strip() and not result.thinking and result.finish_reason == "stop":
            raise EmptyAnswerError(
                "The model ended its turn without a word.", "Reword the prompt, or try a higher --temperature."
            )

    def _keep(self, result: Result | list[Answer], name: str | None) -> None:
        if name:
            self._ip.push({name: result})
        else:
            self._ip.displayhook.update_user_ns(result)

    def _offer_code(self, result: Result) -> None:
        from ..render.formats import code_in

        if code := code_in(result.text):
            self._ip.set_next_input(code)
