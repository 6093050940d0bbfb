"""One turn of a conversation: the user's message, the rounds of tools that the model asks for, and its answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from ..conversation import Conversation
from ..errors import GenerationError, OptionError, PromptTooLongError
from ..request import Message, Request, check_option
from ..result import Result
from ..toolbox import Function, checked, run
from ..tools import ToolCall
from .overflow import CHOICE, ERROR, Fitted, check_overflow, fitted

if TYPE_CHECKING:
    from .engine import Engine

ROUNDS = 5
ROUNDS_TAKES = {"kind": int, "low": 1, "high": 100}
Finish = Callable[[Result], "Result | None"]


class Front(Protocol):
    """How a front takes part in a turn."""

    def answer(self, request: Request, finish: Finish) -> Result:
        """Generate and show. `finish` makes of the Result what is shown and given back; what it gives None for is not
        shown, and given back as it is.
        """
        ...

    def summarised(self, result: Result, turns: int) -> None:
        """Show what stands for the oldest turns from now on."""
        ...

    def allows(self, call: ToolCall) -> bool:
        """Whether the user lets the model call this function.

        Raises:
            OptionError: nobody can be asked.
        """
        ...

    def calling(self, call: ToolCall) -> None:
        """Show a call that is about to be run."""
        ...

    def called(self, call: ToolCall) -> None:
        """Show a call with what came back."""
        ...


class Silent:
    """The front of plain Python: it shows nothing, and lets nothing be called that was not allowed before."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def answer(self, request: Request, finish: Finish) -> Result:
        """See Front.answer."""
        result = self._engine.submit(request).result()
        return finish(result) or result

    def summarised(self, result: Result, turns: int) -> None:
        """See Front.summarised."""

    def allows(self, call: ToolCall) -> bool:
        """See Front.allows."""
        raise unasked(call, f"Pass allow=[{call.name}].")

    def calling(self, call: ToolCall) -> None:
        """See Front.calling."""

    def called(self, call: ToolCall) -> None:
        """See Front.called."""


def unasked(call: ToolCall, remedy: str) -> OptionError:
    """The error where a call was not allowed, and there is nobody to ask."""
    return OptionError(f"The model wants to call {call.written()[:300]}, which was not allowed.", remedy)


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for a turn: what to do where the context overflows, the functions that are offered, those that are
    allowed without asking, and how many rounds of calls there may be.
    """

    overflow: str = ERROR
    tools: Mapping[str, Function] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()
    rounds: int = ROUNDS

    def __post_init__(self) -> None:
        check_overflow(self.overflow)
        object.__setattr__(self, "rounds", check_option("rounds", self.rounds, ROUNDS_TAKES))
        for name in sorted(self.allowed - set(self.tools)):
            raise OptionError(f"{name} is allowed, and is no tool here.", f"Offer it too: --tool {name}.")


class Exchange:
    """A turn on its way. `talk` ends with the user's message and grows by what follows; `before` counts what it took.

    Nothing of it is in the conversation before it is whole.
    """

    def __init__(
        self,
        engine: Engine,
        talk: Conversation,
        request: Request,
        terms: Terms,
        front: Front,
        last: Result | None = None,
        keeps: bool = False,
    ) -> None:
        self._keeps = keeps  # whether the answer is to go into a conversation that is there afterwards
        self._engine, self._request, self._terms, self._front, self._last = engine, request, terms, front, last
        self.talk = talk
        self._before: list[Result] = []
        self._calls: list[ToolCall] = []
        self._verdicts: dict[str, bool] = dict.fromkeys(terms.allowed, True)
        self._fitted = Fitted(talk)
        self._keeps = keeps  # whether the answer is to go into a conversation that is there afterwards
        self._latest: Result | None = None  # as it was generated

    def run(self) -> Result:
        """The answer.

        Raises:
            GenerationError: the model called tools for more rounds than it may; `.partial` has what it called.
            MlxnbError: what a generation raises.
        """
        for left in range(self._terms.rounds, -1, -1):
            result = self._answer()
            latest = self._latest
            assert latest is not None
            if not self._calls_of(latest):
                self.talk = self.talk.grown([Message("assistant", latest.text)])
                return result
            if left:
                self._round(latest)
        assert latest is not None
        cut = latest.finish_reason == "length"
        raise GenerationError(
            f"The model called tools for {self._terms.rounds} rounds and has no answer yet.",
            "Raise --max-tokens: its call is cut." if cut else "Allow more with --rounds N, or say when to stop.",
            self._whole(latest),
        )

    def _answer(self) -> Result:
        terms = self._terms
        self._fitted = fitted(self._engine, self.talk, self._request, terms.overflow, self._summarise)
        self.talk = replace(self._fitted.conversation, messages=self.talk.messages)
        self._before += self._fitted.summaries
        if self._fitted.summaries:
            self._front.summarised(self._fitted.summaries[-1], self.talk.left_out)
        try:
            return self._front.answer(replace(self._request, messages=self.talk.given()), self._finish)
        except PromptTooLongError as err:
            more = f"Or {CHOICE}." if terms.overflow == ERROR and len(self.talk.turns) > 1 else ""
            raise PromptTooLongError(err.message, " ".join(filter(None, [err.remedy, self._largest(), more]))) from err

    def _largest(self) -> str:
        """What to say of the functions of this turn where the prompt became too long; empty where none was called."""
        told = [message for message in self.talk.turns[-1] if message.role == "tool"]
        if not told:
            return ""
        most = max(told, key=lambda message: len(message.content))
        return f"{most.name} gave back {len(most.content):,} characters, which are in it: have it give back less."

    def _summarise(self, request: Request) -> Result:
        return self._front.answer(request, lambda result: None)

    def _finish(self, result: Result) -> Result | None:
        self._latest = result
        if self._calls_of(result):
            return replace(result, tool_calls=()) if result.text.strip() or result.thinking else None
        return self._whole(result)

    def _calls_of(self, result: Result) -> tuple[ToolCall, ...]:
        """The calls of a generation that are to be answered."""
        return result.tool_calls if self._terms.tools and result.finish_reason != "interrupted" else ()

    def _whole(self, result: Result) -> Result:
        """The Result of the turn: its last generation, with all that led to it."""
        p, told = result.provenance, [self._fitted.note or cut_by_server(self._last, result)]
        told += [unkept(result)] if self._keeps and not result.tool_calls else []
        full = result.finish_reason == "length" and result.generation_tokens < p.max_tokens and p.backend != "server"
        if full and self._terms.overflow == ERROR and len(self.talk.turns) > 1:
            told.append(f"context full: the answer was cut; {CHOICE}")
        return replace(
            result,
            tool_calls=(*self._calls, *result.tool_calls),
            before=tuple(self._before),
            left_out=self.talk.left_out,
            provenance=replace(p, notes=(*p.notes, *filter(None, told))),
        )

    def _round(self, result: Result) -> None:
        """Run what the model called, as far as that is allowed, and tell it what came back."""
        called = [self._called(self._named(call, i)) for i, call in enumerate(_uncut(result), 1)]
        plain = tuple(replace(call, output=None, error="") for call in called)
        answers = [Message("tool", call.answer, name=call.name, call_id=call.id) for call in called]
        self.talk = self.talk.grown([Message("assistant", result.text, plain), *answers])
        self._before.append(result)
        self._calls += called

    def _named(self, call: ToolCall, place: int) -> ToolCall:
        """The call with an id of its own, and a name that every template and server takes."""
        earlier = sum(len(message.tool_calls) for message in self.talk.messages)
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", call.name)[:64] or "unreadable"
        # Mistral's templates want nine letters and digits.
        return replace(call, name=name, id=call.id or f"call{earlier + place:05d}")

    def _called(self, call: ToolCall) -> ToolCall:
        tools = self._terms.tools
        arguments = checked(call, tools)
        if isinstance(arguments, ToolCall):
            self._front.called(arguments)
            return arguments
        if call.name not in self._verdicts:
            self._verdicts[call.name] = self._front.allows(call)
        if not self._verdicts[call.name]:
            done = replace(call, error="the user did not allow this call")
        else:
            self._front.calling(call)
            done = run(call, tools[call.name], arguments)
        self._front.called(done)
        return done


def unkept(result: Result) -> str:
    """A note where an answer that came to its end is none to go on from; empty where it is."""
    if result.text.strip() or result.finish_reason == "interrupted":
        return ""
    why = "all of it is thinking: take a larger max_tokens, or think N" if result.thinking else "there is no answer"
    return f"the conversation stays as it was, without this turn: {why}"


def _uncut(result: Result) -> list[ToolCall]:
    """The calls of a generation. Of one that was cut the last may lack arguments that were to come, and is not run."""
    calls = list(result.tool_calls)
    if result.finish_reason == "length":
        limit = result.provenance.max_tokens
        calls[-1] = replace(calls[-1], error=f"the call was cut, for an answer may have {limit} tokens: be brief")
    return calls


def cut_by_server(last: Result | None, result: Result) -> str:
    """A note where a server left out earlier turns by itself, which some do and none tells: it counted fewer tokens of
    a prompt than of the one that it goes on from. Empty where nothing shows that.
    """
    if last is None or not last.provenance.backend == result.provenance.backend == "server":
        return ""
    before, now = last.provenance.prompt_tokens, result.provenance.prompt_tokens
    if last.provenance.model != result.provenance.model or not 0 < now < before:
        return ""
    return (
        f"overflow: the server counted {now} tokens of a prompt that goes on from {before}: it left out earlier turns"
    )
