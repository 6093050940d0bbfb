"""KV states of a model on the torch backend: what the prefix cache copies, cuts, weighs and stores."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

from ..cache.states import HostArray
from ..decision import Accepted, Decision, Rejected
from .state_layers import expect_one_length, pack, unpack
from .torch_kv import new_cache
from .torch_layers import COUNTS, copied, cut, is_linear, kind, rebuilt, replaced, settle, size, tensors, to_host

SUBJECT = "prefix reuse"


class TorchStates:
    """See KVStates. A state is transformers' DynamicCache, see `new_cache`. It keeps the model alive."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def reusable(self) -> Decision:
        """Whether states of this model can be reused at all; the reason says whether they can be cut.

        The first time it feeds the model a token: some models keep a state in their modules and not in the cache.
        """
        fresh = self._fresh().layers
        unknown = sorted({type(layer).__name__ for layer in fresh if kind(layer) is None})
        if unknown:
            return Rejected(SUBJECT, f"this model's {', '.join(unknown)} is not known to be safe to copy")
        left = [layer for layer in self._examples if kind(layer) != "DummyLayer" and not tensors(layer)]
        if left:
            return Rejected(SUBJECT, f"{len(left)} of {len(fresh)} layers keep nothing in the cache")
        if self.cuttable:
            return Accepted(SUBJECT, "any part of a state")
        if any(is_linear(layer) for layer in fresh):
            return Accepted(SUBJECT, "whole states only: the model has recurrent layers")
        return Accepted(SUBJECT, "whole states, and parts until the sliding window has moved on")

    @cached_property
    def cuttable(self) -> bool:
        """Whether every state of this model can be cut back to any length."""
        return all(kind(layer) in ("DynamicLayer", "DummyLayer") for layer in self._fresh().layers)

    def length(self, state: Any) -> int | None:
        """How many tokens a state is of; None where no layer counts them, or they differ."""
        lengths = {layer.get_seq_length() for layer in state.layers if hasattr(layer, "get_seq_length")}
        if len(lengths - {0}) == 1:
            return int(max(lengths))
        return None if any(tensors(layer) for layer in state.layers) else 0

    def nbytes(self, state: Any) -> int:
        """See KVStates.nbytes. Tensors that copies share until one is fed count for each of them.

        A cut state is made of views, so this is where it gets memory of its own and lets go of what it was cut from.
        """
        import torch

        sizes: dict[int, int] = {}
        with torch.inference_mode():
            for layer in state.layers:
                sizes |= settle(layer)
        return sum(sizes.values())

    def size(self, state: Any, tokens: int) -> int:
        """See KVStates.size. Every state of this model grows alike."""
        return sum(size(example, tokens) for example in self._examples)

    def copy(self, state: Any) -> Any:
        """See KVStates.copy."""
        import torch

        with torch.inference_mode():
            return _with_layers(state, [copied(layer) for layer in state.layers])

    def trim(self, state: Any, length: int) -> Any | None:
        """See KVStates.trim. It holds on to all of `state` until it is fed or weighed."""
        import torch

        if length == self.length(state):
            return self.copy(state)
        made = []
        with torch.inference_mode():
            for layer in state.layers:
                part = cut(layer, length)
                if part is None:
                    return None
                made.append(part)
        return _with_layers(state, made)

    def drop_after(self, state: Any, length: int) -> None:
        """Leave the first `length` tokens of a `cuttable` state, in place: its layers keep the room behind them."""
        for layer in state.layers:
            if tensors(layer):
                layer.crop(length - layer.get_seq_length())  # by how many, as a negative number

    def arrays(self, state: Any) -> tuple[dict[str, HostArray], dict[str, str]]:
        """See KVStates.arrays.

        Raises:
            ValueError: an element type that cannot be stored.
        """
        import torch

        with torch.inference_mode():
            return pack([to_host(layer) for layer in state.layers])

    def state(self, arrays: dict[str, HostArray], meta: dict[str, str]) -> Any:
        """See KVStates.state. Only the model says which classes are made."""
        import torch

        layers = unpack(arrays, meta, COUNTS, len(self._examples))
        expect_one_length([layer.counts.get("tokens", 0) for layer in layers])
        with torch.inference_mode():
            made = [rebuilt(example, layer) for example, layer in zip(self._examples, layers, strict=True)]
        return _with_layers(self._fresh(), made)

    def misfit(self, layers: list[Any]) -> str:
        """Why these cache layers are not those of this model, "" where they are."""
        if len(layers) != len(self._examples):
            return f"it has {len(layers)} layers and the model {len(self._examples)}"
        for layer, example in zip(layers, self._examples, strict=True):
            if kind(layer) != kind(example):
                return f"it has a {type(layer).__name__} where the model has a {type(example).__name__}"
            for name, tensor in tensors(layer).items():
                theirs, ours = tuple(tensor.shape), tuple(tensors(example)[name].shape)
                if name in ("keys", "values"):
                    theirs, ours = (theirs[1], theirs[3]), (ours[1], ours[3])
                if theirs != ours:
                    return (
                        f"its {name} are of {theirs[0]} heads by {theirs[-1]}, the model's of {ours[0]} by {ours[-1]}"
                    )
        return ""

    def _fresh(self) -> Any:
        return new_cache(self._model.config)

    @cached_property
    def _examples(self) -> list[Any]:
        """Layers that have seen one token, their tensors without memory: what this model's states look like."""
        import torch

        cache = self._fresh()
        with torch.inference_mode():
            # Layers that accelerate has put elsewhere are fetched when they are needed.
            here = (parameter.device for parameter in self._model.parameters() if not parameter.is_meta)
            token = torch.zeros((1, 1), dtype=torch.long, device=next(here, "cpu"))
            self._model(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1)
            return [
                replaced(layer, {name: tensor.to("meta") for name, tensor in tensors(layer).items()})
                for layer in cache.layers
            ]


def _with_layers(state: Any, layers: list[Any]) -> Any:
    made = copy.copy(state)
    made.layers = layers
    return made
