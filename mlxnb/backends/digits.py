"""Numbers that end: where a schema sets a number no bound, a model may write digits until its limit cuts the answer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from .steering import only

# Digits in a row after which a number ends. A float has 17 that matter, and an integer of 128 bits 39.
MOST = 40

DIGITS = b"0123456789"


class Digits:
    """What a vocabulary, as llguidance knows it, has of digits. `ends` are the tokens that end an answer."""

    def __init__(self, tokenizer: Any, ends: Collection[int]) -> None:
        texts = [tokenizer.decode_bytes([token]) for token in range(tokenizer.vocab_size)]
        self._behind = np.array([len(text) - len(text.rstrip(DIGITS)) for text in texts])
        self._whole = np.array([bool(text) and not text.strip(DIGITS) for text in texts])
        starting = [token for token, text in enumerate(texts) if text[:1] and text[:1] in DIGITS]
        self._others = ~only(starting, tokenizer.vocab_size)
        alone = {text: token for token, text in reversed(list(enumerate(texts)))}
        self._digits = only([alone[bytes([d])] for d in DIGITS if bytes([d]) in alone], tokenizer.vocab_size)
        # A number goes on with none of these, which a string and a name do, and ends before one of those.
        self._never = only([alone[mark] for mark in (b'"', b"a") if mark in alone], tokenizer.vocab_size)
        after = [alone[mark] for mark in (b",", b"}", b"]") if mark in alone]
        self._after = only([*after, *ends], tokenizer.vocab_size)

    def in_a_row(self, before: int, token: int) -> int:
        """How many digits an answer ends with that ended with so many before the token."""
        if token >= self._behind.size:
            return 0
        return int(self._behind[token]) + (before if self._whole[token] else 0)

    def ended(self, words: np.ndarray) -> np.ndarray:
        """Allowed tokens, see Guide.allowed, without more digits where they go on with a number that may end here."""
        size = min(words.size, self._others.size)
        said = words[:size]
        number = (said & self._digits[:size]).any() and not (said & self._never[:size]).any()
        return said & self._others[:size] if number and (said & self._after[:size]).any() else words
