"""KV states of a model on the mlx backend: what the prefix cache copies, cuts, weighs and stores."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from ..cache.states import HostArray
from ..decision import Accepted, Decision, Rejected
from .mlx_host import Form, form, rebuilt, size, to_host
from .mlx_layers import COUNTS, copied, cut, kind, leaves, settle
from .state_layers import expect_one_length, pack, unpack

SUBJECT = "prefix reuse"


class MlxStates:
    """See KVStates. A state is mlx-lm's list of caches, one a layer. It keeps the model alive."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def reusable(self) -> Decision:
        """Whether states of this model can be reused at all; the reason says whether they can be cut."""
        fresh = list(leaves(self._fresh()))
        unknown = sorted({type(cache).__name__ for cache in fresh if kind(cache) is None})
        if unknown:
            return Rejected(SUBJECT, f"this model's {', '.join(unknown)} is not known to be safe to copy")
        if self.cuttable:
            return Accepted(SUBJECT, "any part of a state")
        if any(kind(cache) == "ArraysCache" for cache in fresh):
            return Accepted(SUBJECT, "whole states only: the model has recurrent layers")
        return Accepted(SUBJECT, "whole states, and parts until the sliding window has moved on")

    @cached_property
    def cuttable(self) -> bool:
        """Whether every state of this model can be cut back to any length."""
        return all(kind(cache) in ("KVCache", "QuantizedKVCache") for cache in leaves(self._fresh()))

    def length(self, state: list[Any]) -> int | None:
        """How many tokens a state is of; None where no layer counts them, or they differ."""
        lengths = {cache.offset for cache in leaves(state) if hasattr(cache, "offset")}
        if len(lengths - {0}) == 1:
            return int(max(lengths))
        return 0 if all(cache.empty() for cache in leaves(state)) else None

    def nbytes(self, state: list[Any]) -> int:
        """See KVStates.nbytes. Data that copies share until one is fed counts for each of them.

        Cutting is lazy, so this is where a cut state gets memory of its own and lets go of what it was cut from.
        """
        return sum(settle(cache) for cache in leaves(state))

    def size(self, state: list[Any], tokens: int) -> int:
        """See KVStates.size."""
        return sum(size(cache, held, tokens) for cache, held in zip(leaves(state), self._forms, strict=True))

    def copy(self, state: list[Any]) -> list[Any]:
        """See KVStates.copy. Its data is copied when it is fed."""
        return [copied(cache) for cache in state]

    def trim(self, state: list[Any], length: int) -> list[Any] | None:
        """See KVStates.trim. It holds on to all of `state` until it is fed or weighed."""
        if length == self.length(state):
            return self.copy(state)
        made = []
        for cache in state:
            part = cut(cache, length)
            if part is None:
                return None
            made.append(part)
        return made

    def arrays(self, state: list[Any]) -> tuple[dict[str, HostArray], dict[str, str]]:
        """See KVStates.arrays.

        Raises:
            ValueError: an element type that cannot be stored.
        """
        return pack([to_host(cache) for cache in leaves(state)])

    def state(self, arrays: dict[str, HostArray], meta: dict[str, str]) -> list[Any]:
        """See KVStates.state. Only the model says which classes are made."""
        layers = unpack(arrays, meta, COUNTS, len(self._forms))
        expect_one_length([layer.counts.get("offset", 0) for layer in layers])
        parts = iter(zip(layers, self._forms, strict=True))
        return [_rebuilt(cache, parts) for cache in self._fresh()]

    def _fresh(self) -> list[Any]:
        from mlx_lm.models.cache import make_prompt_cache

        return list(make_prompt_cache(self._model))

    @cached_property
    def _forms(self) -> list[Form]:
        """What this model's arrays look like. The forward pass over one token tells, and MLX need not compute it."""
        import mlx.core as mx

        caches = self._fresh()
        self._model(mx.array([[0]]), cache=caches)
        return [form(cache) for cache in leaves(caches)]


def _rebuilt(fresh: Any, parts: Any) -> Any:
    from mlx_lm.models.cache import CacheList

    if type(fresh) is CacheList:
        return CacheList(*(_rebuilt(cache, parts) for cache in fresh.caches))
    layer, expected = next(parts)
    return rebuilt(fresh, layer, expected)
