"""What was asked in this kernel, to look up with `%mlxnb history` and to ask again with `%generate --last`."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from ..errors import OptionError, PromptError
from ..render.numbers import plural
from ..request import Message, Request, Sampling, option_fields, unescape
from ..result import Result
from ..schema import Schema
from .call import UNDONE, number
from .options import NONE

if TYPE_CHECKING:
    from ..runtime.batch import Answer

# A kernel may run for weeks: older requests go, and those before so many characters of prompts.
KEPT, CHARACTERS = 1000, 50_000_000

# What makes another prompt, so that it would not be the last request again.
NOT_AGAIN = ("chat", "raw", "schema_in_prompt")


@dataclass(slots=True)
class Asked:
    """One cell's request and what came of it: figures are None, and `finish` "failed", until it came to something.
    With `table` it is the first of many, whose prompt has a row's value in the place of `{{ row }}`.
    """

    number: int
    request: Request
    table: bool = False
    tokens: int | None = None
    rate: float | None = None
    finish: str = "failed"

    def came_to(self, result: Result) -> None:
        """Take in what is shown of a Result, which itself may be large."""
        self.tokens = result.generation_tokens
        self.rate = None if result.cached else result.timings.decode_rate
        self.finish = "cached" if result.cached else result.finish_reason

    def came_to_several(self, answers: Sequence[Answer | None]) -> None:
        """The same of several answers: the tokens of all of them."""
        made = [answer.generation_tokens for answer in answers if isinstance(answer, Result)]
        if made:
            self.tokens, self.finish = sum(made), plural(len(made), "answer")

    @property
    def prompt(self) -> str:
        """What the person said last."""
        return self.request.prompt if self.request.prompt is not None else self.request.messages[-1].content


class History:
    """The requests of this kernel by number, from 1."""

    def __init__(self) -> None:
        self._asked: deque[Asked] = deque()
        self._count = self._characters = 0

    def __iter__(self) -> Any:
        return iter(self._asked)

    def add(self, request: Request, table: bool = False) -> Asked:
        """Take in a request that is about to be asked."""
        self._count += 1
        self._asked.append(Asked(self._count, request, table))
        self._characters += _length(request)
        while len(self._asked) > 1 and (len(self._asked) > KEPT or self._characters > CHARACTERS):
            self._characters -= _length(self._asked.popleft().request)
        return self._asked[-1]

    def request(self, number: str) -> Request:
        """The request of a number, or the last for an empty one.

        Raises:
            OptionError: there is none, or it is more than one request can ask again.
        """
        if not self._asked:
            raise OptionError("Nothing was asked in this kernel yet.", "Ask something first, then --last.")
        found = next((each for each in self._asked if str(each.number) == number), None)
        found = self._asked[-1] if not number else found
        if found is None:
            here = f"{self._asked[0].number} to {self._asked[-1].number}"
            raise OptionError(f"There is no request {number}.", f"There are {here}: see %mlxnb history.")
        more = "asked for every row of --each" if found.table else "offered tools" if found.request.tools else ""
        if more:
            remedy = "Run its cell again, or name another: --last N, with the numbers of %mlxnb history."
            raise OptionError(f"Request {found.number} {more}, which --last does not do again.", remedy)
        return found.request


def _length(request: Request) -> int:
    return len(request.prompt or "") + sum(len(message.content) for message in request.messages)


def again(request: Request, options: argparse.Namespace, prompt: str, schema: Schema | None = None) -> Request:
    """A request once more, with the options that the line gives in the place of its own.

    Raises:
        PromptError: the line has a prompt, or an option that belongs to one.
        OptionError: a value outside its range, or a request that offered tools.
    """
    if request.tools:
        names = " ".join(f"--tool {tool.name}" for tool in request.tools)
        raise OptionError("That request offered tools, which --last does not run.", f"Ask in words, with {names}.")
    given = {name: value for name, value in vars(options).items() if value is not None and value is not False}
    other = [name for name in NOT_AGAIN if name in given]
    if prompt.strip() or other:
        what = f"--{other[0].replace('_', '-')}" if other else f"{prompt.strip()[:40]!r}"
        raise PromptError(f"--last asks the same prompt again, and was given {what}.", "Leave out either.")
    numbers = {name: number(name, given[name]) for name in option_fields() if name in given}
    named = {f.name: given[f.name] for f in fields(Request) if f.name in given and f.name not in numbers}
    for each in (numbers, named):
        each.update({name: None for name in UNDONE if each.get(name) == NONE})
    sampling = replace(request.sampling, **_of(Sampling, numbers))
    changes = {**named, **_of(Request, numbers), "sampling": sampling}
    if schema is not None:
        changes["schema"] = schema
    if "stop" in named:
        changes["stop"] = tuple(unescape(text) for text in named["stop"])
    if options.system:
        changes["messages"] = _with_system(request, options.system)
    return replace(request, **changes)


def _of(owner: type, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {f.name for f in fields(owner)}
    return {name: value for name, value in values.items() if name in names}


def _with_system(request: Request, system: str) -> tuple[Message, ...]:
    if request.raw:
        raise PromptError("A system message needs the chat template.", "The request was made with --raw: leave it out.")
    return Message("system", system), *(message for message in request.messages if message.role != "system")
