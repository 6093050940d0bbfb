"""What becomes of a conversation that its model's context does not hold: an error, fewer turns, or a summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..backends.base import LoadedModel
from ..backends.local import LocalModel
from ..conversation import Conversation
from ..errors import EmptyAnswerError, GenerationError, OptionError, PromptTooLongError
from ..request import Message, Request
from ..result import Result

if TYPE_CHECKING:
    from .engine import Engine

ERROR, DROP, SUMMARISE = "error", "drop", "summarise"
OVERFLOWS = (ERROR, DROP, SUMMARISE)
CHOICE = "leave out the oldest turns with --overflow drop, or have them summarised with --overflow summarise"

# Tokens that a summary may have: at most so many, and such a part of the context. Those around it come on top.
MOST, PART, AROUND = 256, 8, 32
ASK = "Summarise this conversation in at most {words} words. Keep names, numbers and what was agreed.\n\n{said}"
ROLES = {"user": "User", "assistant": "Assistant", "tool": "Tool"}

# Options that say on what a request is run: a summary runs on the same. All others, those too that come to a Request
# later, are about the answer and would spoil a summary.
OF_THE_MODEL = frozenset({
    "model", "backend", "dtype", "quantize", "adapter", "kv_bits", "kv_group_size", "draft", "draft_tokens", "strict",
    "cache", "keep_alive", "prefill_step",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fitted:
    """A conversation that fits, with the generations that this took, and the context in tokens."""

    conversation: Conversation
    summaries: tuple[Result, ...] = ()
    context: int | None = None

    @property
    def note(self) -> str:
        """What a reader should know; empty where the model was given everything."""
        turns = self.conversation.left_out
        if not turns:
            return ""
        holds = f" for the context of {self.context} tokens" if self.context else ""
        it = "it" if turns == 1 else "them"
        how = f"a summary stands for {it}" if self.conversation.summary else f"the model was not given {it}"
        if any(summary.finish_reason == "length" for summary in self.summaries):
            how += ", which was cut at its token limit"
        oldest = "turn" if turns == 1 else f"{turns} turns"
        return f"overflow: the oldest {oldest} left out{holds}; {how}"


def check_overflow(overflow: str) -> str:
    """Refuse what is none of the ways.

    Raises:
        OptionError: naming those that there are.
    """
    if overflow not in OVERFLOWS:
        raise OptionError(f"overflow is {overflow!r}.", f"It takes {', '.join(OVERFLOWS)}.")
    return overflow


def fitted(
    engine: Engine, talk: Conversation, request: Request, overflow: str, summarise: Callable[[Request], Result]
) -> Fitted:
    """The conversation with as many of its oldest turns left out as the context asks for, so that there is room for the
    answer too: `max_tokens`, or half of the context where that is less. `summarise` answers a request for a summary.

    Raises:
        OptionError: the model is a server's, which tells only afterwards how long a prompt was.
        EmptyAnswerError: the model has nothing to say for a summary.
        GenerationError: a summary was interrupted.
    """
    if overflow == ERROR or len(talk.turns) - talk.left_out < 2:
        return Fitted(talk)
    length = _Length(engine, request, overflow)
    summaries: tuple[Result, ...] = ()
    while True:
        shorter, context = length.shortened(talk)
        if shorter.left_out == talk.left_out or overflow == DROP:
            return Fitted(shorter, summaries, context)
        assert context is not None
        told = talk.turns[talk.left_out : shorter.left_out]
        summary, made = _summary(length, context, talk.summary, told, summarise)
        talk, summaries = replace(shorter, summary=summary), (*summaries, *made)


class _Length:
    """Counts the tokens of prompts, by the tokenizer of the model that a request is for."""

    def __init__(self, engine: Engine, request: Request, overflow: str) -> None:
        self._engine, self.request, self._overflow = engine, request, overflow

    def shortened(self, talk: Conversation) -> tuple[Conversation, int | None]:
        """The conversation with enough turns left out, and the context; the last turn stays in any case."""

        def now(model: LocalModel) -> tuple[Conversation, int | None]:
            context, short = model.info.context_length, talk
            if context is None:
                return talk, None
            room = min(self.request.max_tokens, context // 2)
            while self._tokens(model, short.given()) + room > context - self._summary_room(short, talk, context):
                if len(short.turns) - short.left_out < 2:
                    break
                short = replace(short, left_out=short.left_out + 1)
            return short, context

        return self._on_model(now)

    def thinks(self) -> bool:
        """Whether the model marks its thinking, which can be ended then."""
        return bool(self._on_model(lambda model: model.tokenizer.markers is not None))

    def counted(self, requests: Sequence[Request]) -> list[int]:
        """The tokens of each prompt."""
        return self._on_model(lambda model: [len(model.tokenizer.prompt(request).ids) for request in requests])

    def _summary_room(self, short: Conversation, talk: Conversation, context: int) -> int:
        """Tokens to keep free for a summary that is still to be made."""
        return summary_tokens(context) + AROUND if self._overflow == SUMMARISE and short is not talk else 0

    def _tokens(self, model: LocalModel, messages: tuple[Message, ...]) -> int:
        return len(model.tokenizer.prompt(replace(self.request, messages=messages)).ids)

    def _on_model(self, function: Callable[[LocalModel], Any]) -> Any:
        def now(model: LoadedModel) -> Any:
            if not isinstance(model, LocalModel):
                raise OptionError(
                    f"overflow {self._overflow} cannot be done for {self.request.model}: the {model.info.backend}"
                    " backend does not tell how many tokens a prompt has.",
                    "Take a model that runs here, or leave overflow at error.",
                )
            return function(model)

        request = self.request
        asked = request.backend, request.dtype, request.quantize, request.adapter
        return self._engine.call_with(request.model, now, *asked)


def summary_tokens(context: int) -> int:
    """How long a summary may be."""
    return min(MOST, max(16, context // PART))


def _summary(
    length: _Length,
    context: int,
    before: str,
    turns: Sequence[Sequence[Message]],
    summarise: Callable[[Request], Result],
) -> tuple[str, list[Result]]:
    """One summary of an earlier one and of turns, in as few generations as the context allows; a turn that is too long
    for one is read in pieces.
    """
    limit, left, made = summary_tokens(context), [_said(turn) for turn in turns], list[Result]()
    think = 0 if length.thinks() else None  # a thought would take up all the tokens that a summary has
    while left:
        asks = [_asking(length.request, before, left[:count], limit, think) for count in range(1, len(left) + 1)]
        fit = sum(tokens + limit <= context for tokens in length.counted(asks))
        if not fit and len(left[0]) < 2:
            raise PromptTooLongError(f"A context of {context} tokens holds no summary.", "Take --overflow drop.")
        if not fit:
            left[:1] = _halves(left[0])
            continue
        result = summarise(asks[fit - 1])
        if result.finish_reason == "interrupted":
            raise GenerationError("The summary of the oldest turns was interrupted.", "Ask again.", result)
        if not result.text.strip():
            raise EmptyAnswerError("The model made no summary.", "Take --overflow drop, or a larger model.")
        before, left = result.text.strip(), left[fit:]
        made.append(result)
    return before, made


def _halves(text: str) -> list[str]:
    """A text in two, between words where there are any."""
    middle = len(text) // 2
    at = text.rfind(" ", 1, middle) + 1 or middle
    return [text[:at], text[at:]]


def _said(turn: Sequence[Message]) -> str:
    return "\n".join(f"{ROLES[message.role]}: {message.content}" for message in turn if message.content)


def _asking(request: Request, before: str, said: Sequence[str], limit: int, think: int | None) -> Request:
    text = "\n".join([*([f"Before: {before}"] if before else []), *said])
    ask = Message("user", ASK.format(words=limit // 2, said=text))
    same: dict[str, Any] = {name: getattr(request, name) for name in OF_THE_MODEL}
    return Request((ask,), max_tokens=limit, think=think, **same)
