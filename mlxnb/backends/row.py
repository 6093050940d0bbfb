"""One answer on its way, whoever computes it: token ids in, Chunks out, and the reason why it ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..request import Request
from ..result import Chunk
from .base import Watch
from .detokenize import Detokenizer
from .server_thinking import Opening
from .split import StopCutter, Unwrapper
from .thinking import splitter
from .tool_text import ToolText

if TYPE_CHECKING:
    from ..tools import Tool, ToolCall
    from .tokenizer import Tokenizer


class TextStream:
    """Token ids to (thinking, answer) text: detokenised, split at thinking markers, cut at stop strings. With `tools`
    what the model calls is taken out of the text, and is in `calls` at the end. With `raw` it goes on with a text, and
    opens no block in a way that only its beginning tells.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: tuple[str, ...],
        thinking: bool,
        tools: tuple[Tool, ...] = (),
        raw: bool = False,
    ) -> None:
        style = tokenizer.tool_style if tools else None
        self._detokenizer = Detokenizer(tokenizer.decode_with(style.markers) if style else tokenizer.decode)
        self._splitter = splitter(tokenizer.markers, thinking) if tokenizer.markers or raw else Opening()
        self._unwrapper = Unwrapper(tokenizer.wrapping)
        self._tools = ToolText(style, tools) if style else None
        self._cutter = StopCutter(stops)
        self.calls: list[ToolCall] = []

    @property
    def stopped(self) -> bool:
        """Whether a stop string was reached."""
        return self._cutter.stopped

    def feed(self, token: int) -> tuple[str, str]:
        """What `token` adds to the thinking and to the answer."""
        thinking, answer = self._splitter.feed(self._detokenizer.feed(token))
        answer = self._unwrapper.feed(answer) if answer else ""
        return thinking, self._cutter.feed(self._tools.feed(answer) if self._tools else answer)

    def finish(self) -> tuple[str, str]:
        """What was held back until the end."""
        thinking, answer = self._splitter.feed(self._detokenizer.finish())
        late_thinking, late_answer = self._splitter.finish()
        answer = self._unwrapper.feed(answer + late_answer) + self._unwrapper.finish()
        if self._tools:
            early = self._tools.feed(answer)
            late, self.calls = self._tools.finish()
            answer = early + late
        answer = self._cutter.feed(answer)
        return thinking + late_thinking, answer if self.stopped else answer + self._cutter.finish()


class Row:
    """Takes the tokens of one answer; writes their times and the finish reason into `watch`."""

    def __init__(self, tokenizer: Tokenizer, request: Request, thinking: bool, watch: Watch) -> None:
        self._ends = tokenizer.end_ids
        self._text = TextStream(tokenizer, request.stop, thinking, request.tools, request.raw)
        self._watch = watch
        self._ended = False
        watch.finish_reason = "length"  # unless something else ends it first

    def feed(self, token: int) -> Chunk | None:
        """The Chunk of the next token; None for one that ends the turn, which is no part of the answer.

        Raises:
            GenerationError: what the answer is steered by cannot go on.
        """
        now = time.perf_counter()
        if self._watch.steering is not None:
            self._watch.steering.check()
        if token in self._ends:
            self._watch.finish_reason, self._ended = "stop", True
            return None
        self._watch.token_times.append(now)
        thinking, answer = self._text.feed(token)
        return Chunk(answer, token, now, thinking)

    def over(self) -> bool:
        """Whether no further token is wanted: the turn or a stop string ended it, or it was cancelled."""
        if self._ended:
            return True
        steering = self._watch.steering
        if self._text.stopped or (steering is not None and steering.over):
            self._watch.finish_reason = "stop"
        elif self._watch.cancelled.is_set():
            self._watch.finish_reason = "interrupted"
        else:
            return False
        return True

    def finish(self) -> Chunk | None:
        """The text that was held back until the end, if there is any."""
        if self._text.stopped:
            return None
        thinking, answer = self._text.finish()
        self._watch.tool_calls = self._text.calls
        return Chunk(answer, None, time.perf_counter(), thinking) if thinking or answer else None
