"""A torch model's KV state on its way through speculative decoding: several tokens in, logits behind each, cut back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from .memory import unless_short
from .reuse import Feed
from .torch_sampling import likeliest
from .torch_states import TorchStates


class Draws(Protocol):
    """See TorchSampler."""

    @property
    def likeliest(self) -> bool:
        """Whether it takes the likeliest token, whatever came before."""
        ...

    def __call__(self, logits: Any, history: list[int]) -> int:
        """The next token for logits [1, vocabulary] after `history`."""
        ...


class TorchDecoder:
    """See Decoder. Logits are [rows, vocabulary]; where each is simply the likeliest token, they are those tokens.

    `make_room` brings a state that found no memory on its way through the layers back to what it was, and makes room;
    the tokens are then fed once more. Without it they are not.
    """

    def __init__(
        self,
        model: Any,
        states: TorchStates,
        feed: Feed,
        sampler: Draws,
        device: str,
        make_room: Callable[[Feed], None] | None = None,
    ) -> None:
        self._model, self._states, self._feed = model, states, feed
        self._sampler, self._device, self._make_room = sampler, device, make_room

    def feed(self, tokens: Sequence[int], rows: int) -> Any:
        """See Decoder."""
        import torch

        found = unless_short(partial(self._fed, tokens, rows), last_try=self._make_room is None)
        if found is None and self._make_room is not None:
            with torch.inference_mode():
                self._make_room(self._feed)
        return found[0] if found else self._fed(tokens, rows)

    def _fed(self, tokens: Sequence[int], rows: int) -> Any:
        import torch

        with torch.inference_mode():
            ids = torch.tensor([tokens], device=self._device)
            out = self._model(input_ids=ids, past_key_values=self._feed.state, use_cache=True, logits_to_keep=rows)
            self._feed.length += len(tokens)
            logits = out.logits[0]
            return likeliest(logits) if self._sampler.likeliest else logits

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
