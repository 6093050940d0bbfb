"""Puts a LoRA adapter's updates beside the linear layers of an mlx-lm model, by mlx-lm's own layer for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedModelError

if TYPE_CHECKING:
    from ..models.adapter import Adapter, Update


def attach(model: Any, adapter: Adapter, name: str) -> None:
    """Replace each layer by one that adds scale · B·A·x. The weights stay as they are, also quantised ones, which is
    how such an adapter was trained.

    Raises:
        UnsupportedModelError: a layer is not in this model, or is no linear one.
        AdapterError: a layer has another shape.
    """
    import mlx.core as mx
    from mlx.utils import tree_unflatten
    from mlx_lm.tuner.lora import LoRALinear

    layers = dict(model.named_modules())
    found = [(update, _layer(layers, adapter, update, name)) for update in adapter.updates]
    stored: Any = mx.load(str(adapter.file))
    made = []
    for update, layer in found:
        low_rank = LoRALinear.from_base(layer, r=update.rank, dropout=0.0, scale=update.scale)
        a, b = stored[update.a], stored[update.b]
        low_rank.lora_a, low_rank.lora_b = (a, b) if update.turned else (a.T, b.T)
        made.append((update.module, low_rank))
    model.update_modules(tree_unflatten(made))
    model.eval()


def _layer(layers: dict[str, Any], adapter: Adapter, update: Update, name: str) -> Any:
    import mlx.nn as nn

    layer = layers.get(update.module)
    if layer is None:
        raise UnsupportedModelError(
            f"The adapter {adapter.path.name} updates {update.module}, which {name} has not in mlx-lm.",
            "Take --backend torch, or the model that it was trained on.",
        )
    if not isinstance(layer, nn.Linear | nn.QuantizedLinear):
        raise UnsupportedModelError(
            f"The adapter {adapter.path.name} cannot be added to {update.module} of {name}, which is a "
            f"{type(layer).__name__} in mlx-lm.",
            "Take --backend torch, or merge it into its model where it was made.",
        )
    outputs, inputs = layer.weight.shape
    if isinstance(layer, nn.QuantizedLinear):
        inputs = inputs * 32 // layer.bits
    if (outputs, inputs) != (update.outputs, update.inputs):
        raise adapter.misfit(name, update, outputs, inputs)
    return layer
