"""The chat panel as the front of a turn: each answer grows in its box, and stop reaches whatever the turn is doing."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING

from ...render.numbers import plural
from ...request import Request
from ...result import Result
from ...tools import ToolCall

if TYPE_CHECKING:
    from ...runtime.exchange import Finish
    from .panel import ChatPanel


class BoxFront:
    """See Front."""

    def __init__(self, panel: ChatPanel) -> None:
        self._panel = panel
        self._over = Event()
        self._running = False  # a function

    def stop(self) -> None:
        """End the turn: what is being generated, and what would be next."""
        self._over.set()
        self._panel.tools.release()
        job = self._panel.answer.job
        if job is not None:
            job.cancel()

    @property
    def stopping(self) -> bool:
        """Whether it was told to end."""
        return self._over.is_set()

    def answer(self, request: Request, finish: Finish) -> Result:
        """See Front.answer."""
        panel = self._panel
        job = panel.engine.submit(request)
        with panel.lock:
            if not panel.closed:
                panel.answer.follow(job)
            if panel.closed or self.stopping:
                job.cancel()
        result = job.result()
        return finish(result) or result

    def summarised(self, result: Result, turns: int) -> None:
        """See Front.summarised."""
        self._panel.say(f"The oldest {plural(turns, 'turn')} are now given to the model as a summary.")

    def allows(self, call: ToolCall) -> bool:
        """See Front.allows. Asks in the panel; stop and close refuse."""
        return self._panel.tools.allows(call, lambda: self.stopping)

    def calling(self, call: ToolCall) -> None:
        """See Front.calling."""
        self._running = True
        self._step("running", call)

    def called(self, call: ToolCall) -> None:
        """See Front.called."""
        ended, self._running = self._running, False
        self._step("called" if call.output is not None else "did not call", call, ended)

    def _step(self, words: str, call: ToolCall, last: bool = False) -> None:
        with self._panel.lock:
            if not self._panel.closed:
                self._panel.tools.step(words, call, last)
