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
        self._read = 0  # how many tokens of the window are only context, given out before it last slid
        self._given = ""  # the text of the window that has been given out
        self._waiting = 0  # tokens since something was given out

    def feed(self, token: int) -> str:
        """The text that `token` completes; empty while a character is incomplete."""
        self._window.append(token)
        self._waiting += 1
        text = self._decode(self._window)
        whole = text if self._waiting >= LONGEST_WAIT else text.rstrip(REPLACEMENT)
        if len(whole) <= len(self._given):
            return ""
        new, self._given, self._waiting = whole[len(self._given) :], whole, 0
        if whole == text:
            self._slide()
        return new

    def _slide(self) -> None:
        """All of the window has been given out: only its newest tokens stay, as context for the next."""
        self._window = self._window[self._read :]
        self._read = len(self._window)
        self._given = self._decode(self._window)

    def finish(self) -> str:
        """What is still held back, without the bytes of a character that never became complete."""
        return self._decode(self._window)[len(self._given) :].rstrip(REPLACEMENT)
