"""Token ids to text as they come, so that no character is shown before all its bytes are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"

# A run of this many tokens without one complete character is damaged text, not a character on its way: UTF-8 takes
# at most four bytes, so at most four byte-level tokens.
LONGEST_WAIT = 8


class Detokenizer:
    """Incremental decoding over a sliding window of tokens.

    A tokenizer's `decode` may treat a first token differently (SentencePiece drops its leading space), so each new
    token is decoded together with the tokens before it, and only what it adds is given out. The pieces together
    are `decode` of all tokens, except that an incomplete character at the very end is left out.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._read = 0  # how many tokens of the window have been given out; they stay as context for the next
        self._given = ""  # the text of those tokens

    def feed(self, token: int) -> str:
        """The text that `token` completes; empty while a character is incomplete."""
        self._window.append(token)
        text = self._decode(self._window)
        waiting = len(self._window) - self._read
        if len(text) <= len(self._given) or (text.endswith(REPLACEMENT) and waiting < LONGEST_WAIT):
            return ""
        return self._give(text)

    def _give(self, text: str) -> str:
        new = text[len(self._given) :]
        self._window = self._window[self._read :]
        self._read = len(self._window)
        self._given = self._decode(self._window)
        return new

    def finish(self) -> str:
        """What is still held back, without the bytes of a character that never became complete."""
        if self._read == len(self._window):
            return ""
        return self._decode(self._window)[len(self._given) :].rstrip(REPLACEMENT)
