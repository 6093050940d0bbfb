"""A torch model's KV state on its way through speculative decoding: several tokens in, logits behind each, cut back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .reuse import Feed
from .torch_sampling import TorchSampler
from .torch_states import TorchStates


class TorchDecoder:
    """See Decoder. Logits are [rows, vocabulary]; where each is simply the likeliest token, they are those tokens."""

    def __init__(self, model: Any, states: TorchStates, feed: Feed, sampler: TorchSampler, device: str) -> None:
        self._model, self._states, self._feed = model, states, feed
        self._sampler, self._device = sampler, device

    def feed(self, tokens: Sequence[int], rows: int) -> Any:
        """See Decoder."""
        import torch

        with torch.inference_mode():
            ids = torch.tensor([tokens], device=self._device)
            out = self._model(input_ids=ids, past_key_values=self._feed.state, use_cache=True, logits_to_keep=rows)
            self._feed.length += len(tokens)
            logits = out.logits[0]
            return logits.argmax(dim=-1).tolist() if self._sampler.likeliest else logits

    def draw(self, logits: Any, row: int, history: list[int]) -> int:
        """See Decoder."""
        import torch

        if self._sampler.likeliest:
            return int(logits[row])
        with torch.inference_mode():
            return self._sampler(logits[row : row + 1], history)

    def cut(self, length: int) -> None:
        """See Decoder."""
        import torch

        if length < self._feed.length:
            with torch.inference_mode():
                self._states.drop_after(self._feed.state, length)
            self._feed.length = length
