"""Prompt caches as mlx-lm has them, a list with one object a layer, over the layers of transformers' cache."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from ...backends.torch_layers import copied, cut, kind, tensors
from ...errors import GenerationError, OptionError
from .model import Model, of
from .refusals import refuse

if TYPE_CHECKING:
    from ...backends.reuse import Feed
    from ...backends.torch import TorchModel


class LayerCache:
    """What one layer keeps of the tokens it has seen; `layer` is transformers' own object, fed in place."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    @property
    def offset(self) -> int:
        """Tokens seen; 0 for a layer that does not count them."""
        return self.layer.get_seq_length() if hasattr(self.layer, "get_seq_length") else 0

    def size(self) -> int:
        """See `offset`."""
        return self.offset

    def empty(self) -> bool:
        """Whether it holds nothing yet."""
        return not tensors(self.layer)

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.nbytes for tensor in tensors(self.layer).values())

    def is_trimmable(self) -> bool:
        """Whether tokens can be cut off now: not from a recurrent state, nor from a window that has moved on."""
        return cut(self.layer, self.offset) is not None

    def trim(self, n: int) -> int:
        """Forget the last `n` tokens, or all; how many it were, 0 where they cannot be cut off."""
        n = min(self.offset, n)
        shorter = cut(self.layer, self.offset - n)
        if shorter is None:
            return 0
        self.layer = shorter
        return n

    def __deepcopy__(self, _: dict[int, Any]) -> LayerCache:
        import torch

        with torch.inference_mode():
            return LayerCache(copied(self.layer))

    def __repr__(self) -> str:
        return f"<{type(self.layer).__name__} of {self.offset} tokens>"


def make_prompt_cache(model: Any, max_kv_size: int | None = None) -> list[LayerCache]:
    """An empty cache for `model`, one object a layer.

    Raises:
        ValueError: `max_kv_size` is given, which is mlx-lm's own.
    """
    refuse(max_kv_size=max_kv_size)
    handle = of(model)
    return handle.run(lambda loaded: [LayerCache(layer) for layer in handle.fresh(loaded).layers])


def can_trim_prompt_cache(cache: list[LayerCache]) -> bool:
    """Whether `trim_prompt_cache` can cut this cache now."""
    return all(layer.is_trimmable() for layer in cache)


def trim_prompt_cache(cache: list[LayerCache], num_tokens: int) -> int:
    """Cut the last `num_tokens` tokens off in place; how many were cut, 0 where the cache cannot be trimmed."""
    if not cache or not can_trim_prompt_cache(cache):
        return 0
    cut_off = [layer.trim(num_tokens) for layer in cache]
    return cut_off[0]


def held_by(cache: list[LayerCache] | None) -> int:
    """How many tokens a cache has seen.

    Raises:
        OptionError: it is none.
    """
    wrong = next((layer for layer in cache or () if not isinstance(layer, LayerCache)), None)
    if wrong is not None:
        raise OptionError(
            f"prompt_cache holds a {type(wrong).__name__}.", "Make it by mlxnb.lm.models.cache.make_prompt_cache."
        )
    return cache[0].offset if cache else 0


def joined(cache: list[LayerCache], model: Model, loaded: TorchModel) -> Any:
    """The KV state over a cache's own layers, so that feeding it feeds the cache; on the engine's thread.

    Raises:
        OptionError: the cache was made for another model.
    """
    state = copy.copy(model.fresh(loaded))
    held_by(cache)
    for layer in cache:
        _move(layer.layer, loaded.info.device)
    state.layers = [layer.layer for layer in cache]
    wrong = loaded.misfit(state.layers)
    if wrong:
        raise OptionError(f"The prompt cache is not for {model.name}: {wrong}.", "Make one by make_prompt_cache.")
    return state


def check_same(feed: Feed, state: Any, cache: list[LayerCache] | None) -> None:
    """Memory that ran out may have made a prompt start again from nothing, which a prompt cache must not.

    Raises:
        GenerationError: it did: `feed` has another state than the one over `cache`.
    """
    if cache is not None and feed.state is not state:
        raise GenerationError(
            "Memory ran out while a prompt was fed behind its prompt cache, which cannot be made anew.",
            "Ask with a shorter prompt, or with fewer prompts.",
        )


def _move(layer: Any, device: str) -> None:
    """A cache that was read from a file lies in the computer's memory."""
    if kind(layer) == "DynamicLayer" and layer.is_initialized and layer.keys.device.type != device:
        layer.keys, layer.values = layer.keys.to(device), layer.values.to(device)
        layer.device = layer.keys.device
