"""Numbers that end: where a schema sets digits no bound, a model may write them until its limit cuts the answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from .steering import only

# Digits in a row after which no more may come where anything else may. A float has 17 that matter, and an integer of
# 128 bits 39.
MOST = 40

DIGITS = b"0123456789"


class Digits:
    """What a vocabulary, as llguidance knows it, has of digits."""

    def __init__(self, tokenizer: Any) -> None:
        texts = [tokenizer.decode_bytes([token]) for token in range(tokenizer.vocab_size)]
        self._behind = np.array([len(text) - len(text.rstrip(DIGITS)) for text in texts])
        self._whole = np.array([bool(text) and not text.strip(DIGITS) for text in texts])
        starting = [token for token, text in enumerate(texts) if text[:1] and text[:1] in DIGITS]
        self._others = ~only(starting, tokenizer.vocab_size)
        # A number, a date and a duration go on with no such letter, which any text may do.
        self._text = only([token for token, text in enumerate(texts) if text == b"a"], tokenizer.vocab_size)

    def in_a_row(self, before: int, token: int) -> int:
        """How many digits an answer ends with that ended with so many before the token."""
        if token >= self._behind.size:
            return 0
        return int(self._behind[token]) + (before if self._whole[token] else 0)

    def ended(self, words: np.ndarray) -> np.ndarray:
        """Allowed tokens, see Guide.allowed, without more digits where they are no text and something else may come."""
        size = min(words.size, self._others.size)
        rest = words[:size] & self._others[:size]
        return words if (words[:size] & self._text[:size]).any() or not rest.any() else rest
