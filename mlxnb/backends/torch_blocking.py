"""Lays the weights of a transformers model out for oneDNN, where a trial shows that it is faster and the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .. import hardware
from ..decision import Accepted, Decision, Rejected
from ..errors import in_words
from .cpu_time import times_as_fast
from .torch_quantize import broken

SUBJECT = "blocked weights"
DTYPES = ("float32", "bfloat16", "float16")
FASTER, ROUNDS = 1.25, 9  # 1.7 to 3 where it helps; a choice that noise decides would change with each load

# Layers of fewer numbers are held in a cache, and what a call costs by itself outweighs what is saved.
LEAST = 1 << 18

# Of the result's length, in the dtype's eps: both round it once, and add up in float32 in another order.
BOUND = 2.0

# A head that shares its weights with the embedding becomes a copy, if that takes at most this share of free memory.
SHARE = 1 / 8


def blocked(model: Any, load: Callable[[], Any]) -> tuple[Any, Decision]:
    """A model on a CPU that `load` gave, with its weights in blocks; or as it was, with what was in the way."""
    decision = take_blocked(model)
    problem = broken(model) if decision else None
    if problem is None:
        return model, decision
    del model  # its own weights are gone, and a second model must not stand beside it
    return load(), Rejected(SUBJECT, problem)


def take_blocked(model: Any) -> Decision:
    """Replace the linear layers one by one, each letting its old weights go at once. Rejected leaves all as it was."""
    from torch import nn

    from .torch_blocked import BlockedLinear

    layers = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    room = hardware.memory_free() * SHARE
    going = [
        name
        for name, layer in layers.items()
        if layer.weight.numel() >= LEAST and (id(layer.weight) not in embeddings or layer.weight.nbytes <= room)
    ]
    if not going:
        return Rejected(SUBJECT, "no linear layer is large enough to gain from it")
    verdict = _worth(min((layers[name] for name in going), key=lambda layer: layer.weight.numel()))
    layers.clear()  # nothing else may hold a layer once it is replaced
    if verdict:
        for name in going:
            model.set_submodule(name, BlockedLinear(model.get_submodule(name)))
    return verdict


def bytes_in_blocks(model: Any) -> int:
    """Bytes of the weights in blocks, which are not among the parameters of the model."""
    from .torch_blocked import BlockedLinear

    layers = [module for module in model.modules() if isinstance(module, BlockedLinear)]
    return sum(each.in_features * each.out_features * each.weight_blocks.dtype.itemsize for each in layers)


def _worth(layer: Any) -> Decision:
    """Whether one layer is faster in blocks for one token, and the same."""
    import torch

    from .torch_blocked import BlockedLinear

    dtype = str(layer.weight.dtype).removeprefix("torch.")
    if layer.weight.device.type != "cpu" or dtype not in DTYPES:
        return Rejected(SUBJECT, f"measured on CPUs only, and for {', '.join(DTYPES)}")
    draw = torch.Generator().manual_seed(0)
    x = torch.randn((3, layer.in_features), generator=draw).to(layer.weight.dtype)
    try:
        with torch.inference_mode():
            ours: Any = BlockedLinear(layer)
            exact, got = layer(x).double(), ours(x).double()
            what = f"{SUBJECT} {layer.in_features} {layer.out_features} {dtype}"
            ratio = times_as_fast(what, partial(layer, x[:1]), partial(ours, x[:1]), ROUNDS)
    except Exception as err:  # noqa: BLE001 - a backend's probe: not every build or CPU has the kernels
        return Rejected(SUBJECT, f"this torch cannot: {in_words(err)}")
    apart = float((got - exact).norm() / exact.norm().clamp_min(1e-30))
    if not apart <= BOUND * max(torch.finfo(x.dtype).eps, 8 * torch.finfo(torch.float32).eps):
        return Rejected(SUBJECT, f"the results differ here by {apart:.2g}")
    if ratio < FASTER:
        return Rejected(SUBJECT, f"measured at {ratio:.2f} of the speed of torch's own layout")
    return Accepted(SUBJECT, f"measured {ratio:.1f} times as fast as torch's own layout")
