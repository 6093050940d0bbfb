"""The live area in a terminal: text is printed as it comes, the footer after it, and nothing twice."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .footer import footed, footer_text, model_label, thought_text
from .result import mimebundle
from .text import plain

if TYPE_CHECKING:
    from ..result import Result
    from .progress import Progress

# Code and JSON are shown in another form at the end, which would be the text a second time.
_PRINTED_AS_IT_COMES = ("markdown", "text", "html")


class Terminal:
    """Standard output as a place for one answer."""

    def __init__(self, format: str, model: str) -> None:
        self._format = format
        self._model = model
        self._printed = ""
        self._status = ""

    def start(self) -> None:
        """Nothing to take: the next line is the place."""

    def show(self, progress: Progress) -> None:
        """Print what has come since the last time, or on a screen how far it is."""
        text = plain(progress.text) if self._format in _PRINTED_AS_IT_COMES else ""
        if text:
            self._print_rest(text)
        elif sys.stdout.isatty():
            self._set_status(f"{model_label(self._model)} · {progress.words()}".lstrip(" ·"))

    def finish(self, result: Result) -> None:
        """Print the rest of the answer, a rule and the footer."""
        self._set_status("")
        if self._format not in _PRINTED_AS_IT_COMES:
            print(mimebundle(result, self._format)["text/plain"], flush=True)
            return
        self._print_rest(plain(result.text))
        print(footed("", thought_text(result), footer_text(result)), flush=True)

    def close(self) -> None:
        """End the line."""
        self._set_status("")
        if self._printed:
            print(flush=True)

    def _print_rest(self, text: str) -> None:
        self._set_status("")
        known = text.startswith(self._printed)
        print(text[len(self._printed) :] if known else f"\n{text}", end="", flush=True)
        self._printed = text

    def _set_status(self, status: str) -> None:
        if status != self._status:
            print(f"\r\x1b[K{status}", end="", flush=True)
            self._status = status
