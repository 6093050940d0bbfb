"""Tells thinking from the answer where it is not known how a model marks it: a server's, whose tokenizer is there, or
one whose tokens and template do not say (Phi-4-mini-reasoning).
"""

from __future__ import annotations

from .thinking import FAMILIES, THINKING_MARKERS, Splitter, leads, splitter

# What an answer may begin with, and the markers that it then has: gpt-oss also names a channel where it does not think.
OPENINGS = {text: pair for pair in THINKING_MARKERS for text in leads(pair)[0]}


class Opening:
    """Splits text at a pair of thinking markers, if the text begins with the first of them.

    Where else one of them stands it is what the model writes about, such as HTML.
    """

    def __init__(self) -> None:
        self._splitter: Splitter | None = None
        self._held = ""
        self._said: list[str] = []

    @property
    def unopened(self) -> str:
        """What closes a block of thinking that nothing opened, so that it is part of the text: its chat template did,
        and whoever serves the model did not split it. Empty where there is none.
        """
        said = "".join(self._said)
        tags = [marks for marks in FAMILIES if not marks.phrase and not marks.again and marks.end in said]
        return next((marks.end for marks in tags if marks.begin not in said.partition(marks.end)[0]), "")

    def feed(self, text: str) -> tuple[str, str]:
        """(thinking, answer) that `text` adds."""
        if self._splitter is not None:
            return self._fed(self._splitter, text)
        self._held += text
        begin = self._held.lstrip()
        if any(opening.startswith(begin) and begin != opening for opening in OPENINGS):
            return "", ""
        pair = next((pair for opening, pair in OPENINGS.items() if begin.startswith(opening)), None)
        text, self._held = begin if pair else self._held, ""
        self._splitter = splitter(pair)
        return self._fed(self._splitter, text)

    def _fed(self, splitter: Splitter, text: str) -> tuple[str, str]:
        thinking, answer = splitter.feed(text)
        self._said.append(answer)
        return thinking, answer

    def finish(self) -> tuple[str, str]:
        """(thinking, answer) that was held back."""
        if self._splitter is None:
            held, self._held = self._held, ""
            return "", held
        return self._splitter.finish()
