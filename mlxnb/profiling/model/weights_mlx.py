"""The weights of an mlx-lm model, quantised ones and experts among them, and what its cache keeps of a token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...backends.base import Watch
from ...request import Request
from .weights import Layer, Parts, Weight, active_share, attention_flops


def look(model: Any, request: Request) -> Parts:
    """The parts of an MlxModel, with its cache as a request keeps it."""
    config = model.checkpoint.config if model.checkpoint is not None else {}
    return Parts(weights(model.model, config), layers(model, request), attention_flops(config))


def weights(model: Any, config: Any) -> list[Weight] | None:
    """Every weight of an mlx-lm model; None where it has experts and nothing says how many a token takes."""
    named = dict(model.named_modules())
    tied = tied_head(named)
    found: list[Weight] = []
    for name, module in named.items():
        own = {key: array for key, array in module.items() if hasattr(array, "nbytes") and not key.startswith("_")}
        if not own:
            continue
        if is_embedding(module):
            found += _embedding(module, own, head=module is tied)
            continue
        share = _share(module, own, config)
        if share is None:
            return None
        found += _module(module, own, share, is_head(name))
    return found


def is_embedding(module: Any) -> bool:
    """Whether a module looks rows up by token ids or positions."""
    import mlx.nn as nn

    return isinstance(module, nn.Embedding | nn.QuantizedEmbedding)


def tied_head(named: dict[str, Any]) -> Any:
    """The embedding that is the head too: the largest, where none of these modules is a head; else None."""
    embeddings = [module for module in named.values() if is_embedding(module)]
    if not embeddings or any(map(is_head, named)):
        return None
    return max(embeddings, key=lambda module: module.weight.size)


def is_head(name: str) -> bool:
    """Whether a module is the head of a model, by its name; one that shares the embedding's weights has no module."""
    return name.rpartition(".")[2] in ("lm_head", "embed_out", "output_layer") or name in ("output", "model.output")


def _embedding(module: Any, own: dict[str, Any], head: bool) -> Iterator[Weight]:
    rows = own["weight"].shape[0]
    for key, array in own.items():
        numbers = _numbers(module, key, array)
        # As a head it is read whole, the row of the token among the rest.
        yield Weight(array.nbytes, numbers, 1.0 if head else 1 / rows, head=head, multiplied=head)


def _module(module: Any, own: dict[str, Any], share: float, head: bool) -> Iterator[Weight]:
    for key, array in own.items():
        yield Weight(array.nbytes, _numbers(module, key, array), share, share < 1, head)


def _numbers(module: Any, key: str, array: Any) -> float:
    """How many weights an array holds: packed ones unpacked, none in scales and offsets."""
    bits = getattr(module, "bits", None) if "scales" in module else None
    if bits is None:
        return float(array.size)
    return array.size * 32 / bits if key == "weight" else float(array.size) if key == "bias" else 0.0


def _share(module: Any, own: dict[str, Any], config: Any) -> float | None:
    """The share of a module's weights that a token touches; None where it holds experts and nothing says how many."""
    from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

    if not isinstance(module, QuantizedSwitchLinear | SwitchLinear):
        return 1.0
    return active_share(config, own["weight"].shape[0])


def layers(model: Any, request: Request) -> list[Layer]:
    """What each layer of an MlxModel keeps of a token. The forward pass over one tells, and MLX need not compute it."""
    import mlx.core as mx

    from ...backends.mlx_layers import leaves

    caches = model.new_state(request, Watch())
    model.model(mx.array([[0]]), cache=caches)
    return [_layer(cache) for cache in leaves(caches)]


def _layer(cache: Any) -> Layer:
    from mlx.utils import tree_flatten

    if not hasattr(cache, "keys"):
        return Layer(state=sum(array.nbytes for _, array in tree_flatten(cache.state) if array is not None))
    sides = [array for _, array in tree_flatten((cache.keys, cache.values)) if array is not None]
    row = sum(array.nbytes / array.shape[2] for array in sides)
    return Layer(row, getattr(cache, "max_size", None) or getattr(cache, "chunk_size", None))
