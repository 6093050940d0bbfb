"""Adds a LoRA adapter's updates to the weights of a transformers model, so that it decodes as fast as without them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedModelError

if TYPE_CHECKING:
    from ..models.adapter import Adapter, Update


def merge(model: Any, adapter: Adapter, name: str) -> None:
    """Make each weight W + scale · B·A, added up in float32 and rounded once to the weight's dtype.

    A weight that a layer shares, as a tied head does, becomes its own.

    Raises:
        UnsupportedModelError: a layer is not in this model, or holds its weights in another way.
        AdapterError: a layer has another shape.
    """
    import torch
    from safetensors import safe_open

    layers = {update.module: _layer(model, adapter, update, name) for update in adapter.updates}
    with safe_open(adapter.file, framework="pt") as stored, torch.no_grad():
        for update in adapter.updates:
            weight = layers[update.module].weight
            a, b = (stored.get_tensor(each).to(weight.device).float() for each in (update.a, update.b))
            added = (a @ b).T if update.turned else b @ a
            merged = (weight.float() + update.scale * added).to(weight.dtype)
            layers[update.module].weight = torch.nn.Parameter(merged, requires_grad=False)


def _layer(model: Any, adapter: Adapter, update: Update, name: str) -> Any:
    import torch

    try:
        layer: Any = model.get_submodule(update.module)
    except AttributeError:
        raise UnsupportedModelError(
            f"The adapter {adapter.path.name} updates {update.module}, which {name} has not in torch.",
            "Take --backend mlx, or the model that it was trained on.",
        ) from None
    weight: Any = getattr(layer, "weight", None)
    plain = isinstance(layer, torch.nn.Linear) and weight is not None and weight.is_floating_point()
    if not plain or weight.dtype.itemsize < 2 or weight.is_meta:
        where = "is in another place than memory" if plain and weight.is_meta else f"is a {type(layer).__name__}"
        raise UnsupportedModelError(
            f"The adapter {adapter.path.name} cannot be added to {update.module} of {name}, which {where} in torch.",
            "Take --backend mlx, or a version of the model that is not quantised.",
        )
    if tuple(weight.shape) != (update.outputs, update.inputs):
        raise adapter.misfit(name, update, *weight.shape)
    return layer
