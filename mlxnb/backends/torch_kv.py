"""A KV cache layer that writes new tokens behind the old ones instead of copying them all for each."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

# Tokens of room that a buffer gets beyond what it must hold, or a quarter of it where that is more.
STEP = 256


@cache
def growing_layer() -> Any:
    """The class, made once torch is imported: a DynamicLayer in transformers' terms.

    transformers joins old and new keys to a new tensor at every token: of a model in Qwen3-0.6B's shape that copied
    0.5 GB a token after a prompt of 4,000. Here `keys` and `values` [B, heads, L, D] are views of buffers with room
    behind them. Only the layer that made the room writes there; copies see what is written and make room of their own.
    """
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.expected = 0  # tokens that it is going to hold, as far as that is known
            self._buffers: tuple[Any, Any] | None = None
            self._shared = 0  # tokens that a copy may see, which must not be written over

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            """Append keys and values [B, heads, L, D]; all there are now."""
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            old, length = self.get_seq_length(), self.get_seq_length() + key_states.shape[-2]
            if not self._has_room(length):
                room = self.expected if self.expected >= length else length + max(STEP, length // 4)
                self._buffers, self._shared = self._moved(old, room, key_states, value_states), 0
            assert self._buffers is not None
            keys, values = self._buffers  # `narrow` takes half the time of an index, at every layer of every token
            keys.narrow(-2, old, length - old).copy_(key_states)
            values.narrow(-2, old, length - old).copy_(value_states)
            self.keys, self.values = keys.narrow(-2, 0, length), values.narrow(-2, 0, length)
            return self.keys, self.values

        def _has_room(self, length: int) -> bool:
            """Whether tokens up to `length` can be written behind those of `keys`, which another may have replaced."""
            import torch

            if self._buffers is None:
                return False
            keys, _ = self._buffers
            own = keys.data_ptr() == self.keys.data_ptr() and keys.shape[:-2] == self.keys.shape[:-2]
            frozen = keys.is_inference() and not torch.is_inference_mode_enabled()
            return own and not frozen and keys.shape[-2] >= length

        def _moved(self, old: int, room: int, *new: Any) -> tuple[Any, Any]:
            made = tuple(each.new_empty((*each.shape[:-2], room, each.shape[-1])) for each in new)
            if old:
                made[0][..., :old, :], made[1][..., :old, :] = self.keys, self.values
            return made

        def shared(self) -> Any:
            """A copy that sees the same tokens and has no room."""
            self._shared = max(self._shared, self.get_seq_length())
            made = copy.copy(self)
            made._buffers, made._shared = None, 0
            return made

        def without_room(self) -> None:
            """Let go of the buffers: `keys` and `values` have memory of their own."""
            self._buffers, self._shared = None, 0

        def crop(self, tokens_to_remove: int) -> None:
            """Drop the last tokens; see DynamicLayer.crop for the sign."""
            super().crop(tokens_to_remove)
            if self.get_seq_length() < self._shared:
                self._buffers = None

        def reset(self) -> None:
            """Hold no tokens."""
            super().reset()
            self._buffers, self._shared = None, 0

    return GrowingLayer


def new_cache(config: Any) -> Any:
    """transformers' cache for a model's configuration; layers that keep all tokens grow in place."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    made = DynamicCache(config=config)
    made.layers = [growing_layer()() if type(layer) is DynamicLayer else layer for layer in made.layers]
    return made


def expect(cache: Any, tokens: int) -> None:
    """Let a cache make room for so many tokens at once, when it needs any."""
    for layer in cache.layers:
        if isinstance(layer, growing_layer()):
            layer.expected = tokens
