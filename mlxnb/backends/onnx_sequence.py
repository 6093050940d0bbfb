"""One sequence of tokens in onnxruntime-genai: fed piece by piece, cut back, its logits as numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from typing import Any

import numpy as np

# The least room of a sequence, in tokens. It doubles from there, so that a conversation outgrows it a few times only.
LEAST = 512


class OnnxSequence:
    """A Generator with room for `capacity` tokens, made with the first of them: the library takes the room at once.

    It is never asked to draw a token: its own search options change nothing.
    """

    def __init__(self, model: Any, capacity: int) -> None:
        self._model = model
        self.capacity = capacity
        self._generator: Any = None

    def feed(self, ids: Tokens[int]) -> np.ndarray:
        """Append tokens; logits [vocabulary] behind the last of them, in float32."""
        self._append(ids)
        return np.asarray(self._generator.get_logits(), np.float32).reshape(-1)

    def rows(self, ids: Tokens[int]) -> np.ndarray:
        """Append tokens; logits [rows, vocabulary] behind each, or only the last where the graph has no more."""
        self._append(ids)
        logits = np.asarray(self._generator.get_output("logits"), np.float32)
        return logits.reshape(-1, logits.shape[-1])

    def cut(self, length: int) -> None:
        """Leave the first `length` tokens."""
        if self._generator is not None:
            self._generator.rewind_to(length)

    def _append(self, ids: Tokens[int]) -> None:
        if self._generator is None:
            import onnxruntime_genai as og

            params = og.GeneratorParams(self._model)
            params.set_search_options(max_length=self.capacity, batch_size=1, num_beams=1, do_sample=False)
            self._generator = og.Generator(self._model, params)
        self._generator.append_tokens(np.asarray(ids, np.int32))


def capacity_for(tokens: int, context: int) -> int:
    """Room for `tokens` tokens and some more, within a context of so many."""
    room = LEAST
    while room < tokens:
        room *= 2
    return min(room, context)
