"""How a test feeds a model by hand and looks into its KV states, on either backend."""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlxnb import Request
from mlxnb.backends.base import Watch
from mlxnb.cache import HostArray
from mlxnb.models import ModelSource
from mlxnb.request import Precision

FLOAT32 = Precision("float32")
WINDOW = 12  # tokens, of the tiny models with a sliding window

Stored = tuple[dict[str, HostArray], dict[str, str]]


class Fed(ABC):
    """A loaded model whose states a test feeds by hand."""

    states: Any
    window = WINDOW

    @abstractmethod
    def fresh(self) -> Any:
        """A state without tokens."""

    @abstractmethod
    def logits(self, state: Any, tokens: Sequence[int]) -> np.ndarray:
        """Feed tokens in one piece; the logits [vocabulary] behind the last one, in float32."""

    def feed(self, state: Any, tokens: Sequence[int]) -> int:
        """Feed tokens in one piece; the greedy next one."""
        return int(self.logits(state, tokens).argmax())

    @abstractmethod
    def seen(self, state: Any) -> list[np.ndarray]:
        """All numbers that the next token can depend on, in the order of positions."""

    @abstractmethod
    def moved_on(self, length: int) -> bool | None:
        """Whether the window of a state of so many tokens has moved on, so that it cannot be cut; None: it depends."""

    def prefill(self, tokens: Sequence[int], pieces: Sequence[int] = ()) -> Any:
        """A state of `tokens`, fed in pieces of these lengths and the rest one by one."""
        state, start = self.fresh(), 0
        for piece in (*pieces, *[1] * len(tokens)):
            if start < len(tokens):
                self.feed(state, tokens[start : start + piece])
            start += piece
        return state

    def greedy(self, state: Any, tokens: Sequence[int], number: int = 6) -> list[int]:
        """What the model says after `tokens`; the state is fed with them and that."""
        said = [self.feed(state, tokens)]
        while len(said) < number:
            said.append(self.feed(state, said[-1:]))
        return said


class MlxFed(Fed):
    """On mlx, with a KV cache in `bits` bits."""

    def __init__(self, model: Any, bits: int | None = None) -> None:
        from mlxnb.backends.mlx_states import MlxStates

        self.model, self.bits = model, bits
        self.states = MlxStates(model.model)

    def fresh(self) -> Any:
        return self.model.new_state(Request.of("?", kv_bits=self.bits), Watch())

    def logits(self, state: Any, tokens: Sequence[int]) -> np.ndarray:
        import mlx.core as mx

        return np.array(self.model.model(mx.array([list(tokens)]), cache=state)[0, -1].astype(mx.float32))

    def seen(self, state: Any) -> list[np.ndarray]:
        import mlx.core as mx

        from mlxnb.backends.mlx_layers import leaves

        return [np.array(array.astype(mx.float32)) for cache in leaves(state) for array in _seen(cache)]

    def moved_on(self, length: int) -> bool | None:
        return False if length <= self.window else None  # a piece that reaches beyond it is kept whole for a while


def _seen(cache: Any) -> list[Any]:
    import mlx.core as mx
    from mlx_lm.models.cache import ArraysCache, QuantizedKVCache, RotatingKVCache

    if isinstance(cache, ArraysCache):
        return list(cache.cache)
    if isinstance(cache, RotatingKVCache):
        last = min(cache.offset, cache.max_size)
        return [cache._temporal_order(side)[..., -last:, :] for side in (cache.keys, cache.values)]
    sides = cache.keys_and_values()
    if isinstance(cache, QuantizedKVCache):
        return [mx.dequantize(*side, group_size=cache.group_size, bits=cache.bits) for side in sides]
    # Rows that are not in use must not show.
    return [side[..., : cache.offset, :] for side in sides]


class TorchFed(Fed):
    """On torch."""

    def __init__(self, model: Any) -> None:
        from mlxnb.backends.torch_states import TorchStates

        self.model = model.model
        self.states = TorchStates(self.model)

    def fresh(self) -> Any:
        from mlxnb.backends.torch_kv import new_cache

        return new_cache(self.model.config)

    def logits(self, state: Any, tokens: Sequence[int]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            ids = torch.tensor([list(tokens)])
            out = self.model(input_ids=ids, past_key_values=state, use_cache=True, logits_to_keep=1)
        return out.logits[0, -1].float().numpy()

    def seen(self, state: Any) -> list[np.ndarray]:
        from mlxnb.backends.torch_layers import tensors

        return [tensor.float().numpy() for layer in state.layers for tensor in tensors(layer).values()]

    def moved_on(self, length: int) -> bool:
        return length >= self.window


def load(backend: str, name: str, path: Path, precision: Precision = FLOAT32) -> Fed:
    """A checkpoint on a backend; a name that ends in -8 or -4 has its KV cache in so many bits."""
    source = ModelSource(name, path, "path")
    if backend == "mlx":
        from mlxnb.backends.mlx import MlxBackend

        return MlxFed(MlxBackend().load(source, precision), int(name[-1]) if name.endswith(("-8", "-4")) else None)
    from mlxnb.backends.torch import TorchBackend

    return TorchFed(TorchBackend().load(source, precision))


def bits(stored: Stored) -> dict[str, Any]:
    """A state in host memory as a value to compare, every bit of it."""
    arrays, meta = stored
    return {**meta, **{name: (array.dtype, array.shape, bytes(array.view)) for name, array in arrays.items()}}


def same_numbers(left: list[np.ndarray], right: list[np.ndarray], tolerance: float) -> None:
    assert [a.shape for a in left] == [a.shape for a in right]
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def damaged(stored: Stored) -> dict[str, Stored]:
    """A state's arrays and words, wrong in each of many ways, by what is wrong with them."""
    arrays, meta = stored
    name = sorted(arrays)[0]
    array = arrays[name]
    layers = json.loads(meta["layers"])
    longer = np.concatenate([array.data, array.data])
    wrong: dict[str, Stored] = {
        "no words": (arrays, {}),
        "no JSON": (arrays, {"layers": "{"}),
        "nested": (arrays, {"layers": "[" * 100_000}),
        "no list": (arrays, {"layers": '{"kind": "KVCache"}'}),
        "no array": ({n: a for n, a in arrays.items() if n != name}, meta),
        "no arrays": ({}, meta),
        "an array more": ({**arrays, "0.more": array}, meta),
        "an array of no layer": ({**arrays, f"{len(layers)}.keys": array}, meta),
        "an array by another name": ({**arrays, "00.keys": array}, meta),
        "a shape": ({**arrays, name: HostArray(array.dtype, (*array.shape[:-1], array.shape[-1] * 2), longer)}, meta),
        "a batch": ({**arrays, name: HostArray(array.dtype, (2, *array.shape[1:]), longer)}, meta),
        "fewer bytes": ({**arrays, name: HostArray(array.dtype, array.shape, array.data[:-1])}, meta),
        "a type": ({**arrays, name: HostArray("I32", array.shape, array.data)}, meta),
        "an unknown type": ({**arrays, name: HostArray("F4", array.shape, array.data)}, meta),
    }
    for label, change in {
        "a layer less": layers[:-1],
        "a layer more": [*layers, layers[-1]],
        "a kind": [{**layers[0], "kind": "os.system"}, *layers[1:]],
        "no kind": [{n: v for n, v in layers[0].items() if n != "kind"}, *layers[1:]],
        "a word more": [{**layers[0], "__class__": 1}, *layers[1:]],
        "no dictionary": [1, *layers[1:]],
    }.items():
        wrong[label] = (arrays, {"layers": json.dumps(change)})
    for i, layer in enumerate(layers):
        for count in set(layer) - {"kind"}:
            for value in (layer[count] + 1, -1, True, 1.5, "1", None, 2**70):
                changed = copy.deepcopy(layers)
                changed[i][count] = value
                wrong[f"{count} of layer {i} is {value!r}"] = (arrays, {"layers": json.dumps(changed)})
    return wrong
