"""Tells thinking from the answer where it is not known how a model marks it: a server's, whose tokenizer is there, or
one whose tokens and template do not say (Phi-4-mini-reasoning).
"""

from __future__ import annotations

from .thinking import THINKING_MARKERS, Splitter, splitter


class Opening:
    """Splits text at a pair of thinking markers, if the text begins with the first of them.

    Where else one of them stands it is what the model writes about, such as HTML.
    """

    def __init__(self) -> None:
        self._splitter: Splitter | None = None
        self._held = ""

    def feed(self, text: str) -> tuple[str, str]:
        """(thinking, answer) that `text` adds."""
        if self._splitter is not None:
            return self._splitter.feed(text)
        self._held += text
        begin = self._held.lstrip()
        if any(pair[0].startswith(begin) and begin != pair[0] for pair in THINKING_MARKERS):
            return "", ""
        pair = next((pair for pair in THINKING_MARKERS if begin.startswith(pair[0])), None)
        text, self._held = begin if pair else self._held, ""
        self._splitter = splitter(pair)
        return self._splitter.feed(text)

    def finish(self) -> tuple[str, str]:
        """(thinking, answer) that was held back."""
        if self._splitter is None:
            held, self._held = self._held, ""
            return "", held
        return self._splitter.finish()
