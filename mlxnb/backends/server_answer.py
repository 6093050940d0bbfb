"""The events of a server's answer to Chunks: text and thinking told apart, cut at stop strings, with the reason why it
ended and what the server counted.
"""

from __future__ import annotations

import time
from typing import Any

from ..request import Request
from ..result import Chunk, FinishReason, TokenLogprob
from .base import Watch
from .halves import Halves
from .server_faults import malformed, plain
from .server_logprobs import told
from .server_thinking import Opening
from .server_tools import Calls
from .split import StopCutter

# What servers call their reasons to end; any other is noted and counts as "stop".
REASONS: dict[str, FinishReason] = {"stop": "stop", "eos": "stop", "stop_sequence": "stop", "length": "length"}
TOOLS = ("tool_calls", "function_call")

# Pieces for a token that is asked for, from which on a server does not keep to max_tokens: none sends a token in many.
PIECES, SPARE = 4, 64
MOST = 2**40  # tokens; a larger count is none


class Answer:
    """Takes the events of one answer; writes times, counts and the finish reason into `watch`."""

    def __init__(self, request: Request, watch: Watch, where: str) -> None:
        self._limit = request.max_tokens
        self._tools = bool(request.tools)
        self._calls = Calls(request.tools)
        self._watch = watch
        self._where = where
        self._halves = {"text": Halves(), "thinking": Halves()}
        self._opening = Opening()
        self._cutter = StopCutter(request.stop)
        self._reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._thought, self._told_not_to = False, request.think == "off"
        self._likely: list[TokenLogprob] = []
        self._wants = request.logprobs is not None
        if self._wants:
            watch.logprobs = lambda tokens: tuple(self._likely) or None

    def ended(self) -> bool:
        """Whether the server told why it ended; only its counts may follow."""
        return self._reason is not None

    def feed(self, event: dict[str, Any]) -> Chunk | None:
        """The Chunk of an event, None for one without text.

        Raises:
            Fault: the event is no part of an answer.
        """
        if isinstance(event.get("usage"), dict):
            self._usage = event["usage"]
        choice = self._choice(event)
        if choice is None:
            return None
        if self._wants:
            self._likely += told(choice)
        text, thinking, called = self._said(choice)
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self._reason = reason
        return self._chunk(text, thinking) if text or thinking or called else None

    def over(self) -> bool:
        """Whether no further event is wanted: a stop string was reached, there is too much, or it was cancelled."""
        if self._cutter.stopped:
            self._watch.finish_reason = "stop"
        elif self._watch.cancelled.is_set():
            self._watch.finish_reason = "interrupted"
        elif len(self._watch.token_times) > PIECES * self._limit + SPARE:
            self._watch.finish_reason = "length"
            self._watch.notes.append(f"cut here: {self._where} does not keep to max_tokens")
        else:
            return False
        return True

    def finish(self) -> Chunk | None:
        """The text that was held back until the end."""
        if self._watch.finish_reason is None:
            self._watch.finish_reason = self._ending()
        self._count()
        if self._wants and not self._likely and not any(note.startswith("logprobs ") for note in self._watch.notes):
            self._watch.notes.append(f"logprobs not used: {self._where} told none")
        if self._cutter.stopped:
            return None
        thinking, text = self._opening.feed(self._halves["text"].finish())
        late_thinking, late = self._opening.finish()
        if self._thought and self._told_not_to:
            self._watch.notes.append(f"think off was not heeded: {self._where} or its model thought all the same")
        if closing := self._opening.unopened:
            self._watch.notes.append(
                f"the thinking is part of the text, up to {closing}: {self._where} does not split what its chat "
                "template opened (vLLM does with --reasoning-parser, llama-server with --reasoning-format)"
            )
        text, self._watch.tool_calls = self._calls.finish(text + late)
        text = self._cutter.feed(text)
        text = text if self._cutter.stopped else text + self._cutter.finish()
        thinking = self._halves["thinking"].finish() + thinking + late_thinking
        return Chunk(text, None, time.perf_counter(), thinking) if text or thinking else None

    def _choice(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """The event's first choice, which is the only one that is asked for; None for one that has none."""
        choices = event.get("choices")
        if choices is None or choices == []:
            return None
        if not isinstance(choices, list) or not isinstance(choices[0], dict):
            raise malformed(self._where, "an event whose choices are none")
        return choices[0] if choices[0].get("index", 0) == 0 else None

    def _said(self, choice: dict[str, Any]) -> tuple[str, str, bool]:
        """(text, thinking, whether a call goes on) of a choice: of a chat's delta, or of a plain completion."""
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return self._text(choice.get("text")), "", False
        called, thinking = self._calls.add(delta.get("tool_calls")), delta.get("reasoning_content")
        text = self._text(delta.get("content"))
        return text, self._text(thinking or delta.get("reasoning")), called and self._tools

    def _text(self, value: Any) -> str:
        """Text as the servers give it: a string, or parts of which some are text."""
        if isinstance(value, list):
            return "".join(self._text(part.get("text")) for part in value if isinstance(part, dict))
        if value is None or isinstance(value, str):
            return value or ""
        raise malformed(self._where, f"a {type(value).__name__} where text was expected")

    def _chunk(self, text: str, thinking: str) -> Chunk:
        now = time.perf_counter()
        self._watch.token_times.append(now)
        self._watch.counted = len(self._watch.token_times)  # for as long as the server has not told
        thought, answer = self._opening.feed(self._halves["text"].feed(text)) if text else ("", "")
        thought = self._halves["thinking"].feed(thinking) + thought if thinking else thought
        self._thought = self._thought or bool(thought)
        return Chunk(self._cutter.feed(self._calls.feed(answer)), None, now, thought)

    def _ending(self) -> FinishReason:
        if self._reason in REASONS:
            return REASONS[self._reason]
        if self._reason is None:
            self._watch.notes.append(f"{self._where} did not say why the answer ended")
            return "length" if (self._counted("completion_tokens") or 0) >= self._limit else "stop"
        if self._reason in TOOLS or self._calls.name:
            if not self._tools:
                name = f" {plain(self._calls.name)[:60]}" if self._calls.name else ""
                self._watch.notes.append(f"the model called a tool{name}; tools are not run here")
        else:
            self._watch.notes.append(f"{self._where} ended the answer by {self._reason[:60]!r}")
        return "stop"

    def _count(self) -> None:
        """What the server counted; where it did not, a piece of text counts as a token."""
        watch, pieces = self._watch, len(self._watch.token_times)
        prompt, made = self._counted("prompt_tokens"), self._counted("completion_tokens")
        watch.prompt_tokens, watch.counted = prompt or 0, pieces if made is None else made - self._unseen(made)
        cached = self._usage.get("prompt_tokens_details")
        reused = cached.get("cached_tokens") if isinstance(cached, dict) else None
        if isinstance(reused, int) and 0 <= reused <= watch.prompt_tokens:
            watch.reused_tokens = reused
        clock = "times are this client's, with the way to the server and its queue in them"
        if made is None:
            watch.notes.append(f"{clock}; {self._where} counted no tokens, so each piece of text counts as one")
        else:
            watch.notes.append(f"{clock}; tokens are as {self._where} counted them")

    def _unseen(self, made: int) -> int:
        """Tokens of thinking that were counted and not sent: no time of theirs is known."""
        told = self._usage.get("completion_tokens_details")
        unseen = told.get("reasoning_tokens") if isinstance(told, dict) else None
        if self._thought or not isinstance(unseen, int) or not 0 < unseen <= made:
            return 0
        self._watch.notes.append(f"{unseen} more tokens were thinking that {self._where} does not show")
        return unseen

    def _counted(self, name: str) -> int | None:
        value = self._usage.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST else None
