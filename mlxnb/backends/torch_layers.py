"""One layer of transformers' DynamicCache, without feeding it: copy, cut, weigh, to host memory and back."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from ..cache.states import HostArray
from .state_layers import HostLayer
from .torch_kv import growing_layer

# Numbers that go with the tensors of each kind of layer. `tokens`: how many it has seen.
COUNTS: dict[str, tuple[str, ...]] = {
    "DynamicLayer": ("tokens",),
    "DynamicSlidingWindowLayer": ("tokens", "sliding_window"),
    "LinearAttentionLayer": (),
    "LinearAttentionAndFullAttentionLayer": ("tokens",),
    "LinearAttentionAndSlidingWindowAttentionLayer": ("tokens", "sliding_window"),
    "DummyLayer": (),
}
SLACK = 1.1  # of a tensor's bytes; more memory than that is not kept for it
_NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}
_DICTS = ("is_conv_states_initialized", "is_recurrent_states_initialized", "has_previous_state", "conv_kernel_size")


def kind(layer: Any) -> str | None:
    """Its name in COUNTS, None for a class that is not known here. A subclass may do anything, so it is not known."""
    from transformers import cache_utils

    known = {getattr(cache_utils, name): name for name in COUNTS} | {growing_layer(): "DynamicLayer"}
    return known.get(type(layer))


def is_linear(layer: Any) -> bool:
    """Whether it holds a recurrent state, or the last inputs of a convolution."""
    return hasattr(layer, "conv_states")


def tensors(layer: Any) -> dict[str, Any]:
    """Every tensor of it that is filled, by the name it has in host memory."""
    found = {}
    if getattr(layer, "is_initialized", False) and layer.keys is not None:
        found = {"keys": layer.keys, "values": layer.values}
    for side in ("conv", "recurrent") if is_linear(layer) else ():
        states = getattr(layer, f"{side}_states")
        found |= {f"{side}.{i}": tensor for i, tensor in states.items() if tensor is not None}
    return found


def replaced(layer: Any, new: dict[str, Any]) -> Any:
    """A layer like it with other tensors, `new` having those of the same names."""
    made = layer.shared() if isinstance(layer, growing_layer()) else copy.copy(layer)
    if is_linear(layer):
        for name in _DICTS:
            setattr(made, name, dict(getattr(layer, name)))
        for side in ("conv", "recurrent"):
            states = getattr(layer, f"{side}_states")
            setattr(made, f"{side}_states", {i: new.get(f"{side}.{i}") for i in states})
    if "keys" in new:
        made.keys, made.values = new["keys"], new["values"]
    return made


def copied(layer: Any) -> Any:
    """A layer of its own. Keys and values are shared, as an update makes new tensors of them, or writes behind them
    into room that a copy has not; linear attention writes into its tensors, so those are cloned.
    """
    shared = {name: t if name in ("keys", "values") else t.clone() for name, t in tensors(layer).items()}
    return replaced(layer, shared)


def cut(layer: Any, length: int) -> Any | None:
    """A copy with the first `length` tokens only, None where it cannot be had: a window that has moved on, a recurrent
    state. Views of the same tensors: nothing moves.
    """
    if kind(layer) == "DummyLayer" or not (is_linear(layer) or layer.is_initialized):
        return copied(layer)
    if is_linear(layer) or kind(layer) is None:
        return None
    held = layer.keys.shape[-2]
    if held != layer.get_seq_length() or not 0 <= length <= held:
        return None
    made = copied(layer)
    if length == 0:
        made.reset()
        return made
    made.keys, made.values = (t[..., :length, :] for t in (layer.keys, layer.values))
    if hasattr(made, "cumulative_length"):
        made.cumulative_length = length
    return made


def settle(layer: Any) -> dict[int, int]:
    """Give every tensor memory of its own where it is a view of a larger one; bytes by the address they are at.

    Views are what a cut layer has, and a sliding window after a prefill chunk: it keeps the whole chunk alive. A little
    room behind the tokens stays.
    """
    own = {name: _compact(tensor) for name, tensor in tensors(layer).items()}
    if "keys" in own:
        moved = own["keys"] is not layer.keys or own["values"] is not layer.values
        layer.keys, layer.values = own["keys"], own["values"]
        if moved and isinstance(layer, growing_layer()):
            layer.without_room()
    for side in ("conv", "recurrent") if is_linear(layer) else ():
        getattr(layer, f"{side}_states").update({int(n.split(".")[1]): t for n, t in own.items() if n.startswith(side)})
    storages = [tensor.untyped_storage() for tensor in own.values()]
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


def size(example: Any, tokens: int) -> int:
    """Bytes of a layer that has seen so many tokens; `example` is one of this model that has seen one."""
    rows = min(tokens, getattr(example, "sliding_window", None) or tokens)
    return sum(t.nbytes * (rows if name in ("keys", "values") else 1) for name, t in tensors(example).items())


def _compact(tensor: Any) -> Any:
    import torch

    whole = tensor.untyped_storage().nbytes() <= SLACK * tensor.nbytes
    return tensor if whole else tensor.clone(memory_format=torch.contiguous_format)


def to_host(layer: Any) -> HostLayer:
    """It in host memory. On a CPU keys and values may be the very ones of the layer, which nothing writes to.

    Raises:
        ValueError: an element type that has no name.
    """
    name = kind(layer)
    if name is None:
        raise ValueError(f"A {type(layer).__name__} is not known here.")
    counts = {"tokens": layer.get_seq_length()} if "tokens" in COUNTS[name] else {}
    if "sliding_window" in COUNTS[name]:
        counts["sliding_window"] = layer.sliding_window
    return HostLayer(name, counts, {n: host(t, own=n not in ("keys", "values")) for n, t in tensors(layer).items()})


def dtype_name(tensor: Any) -> str:
    """Its element type by safetensors' name.

    Raises:
        ValueError: it has none.
    """
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in _NAMES:
        raise ValueError(f"A tensor of {dtype} cannot be stored.")
    return _NAMES[dtype]


def host(tensor: Any, own: bool = True) -> HostArray:
    """One tensor in host memory, with `own` in memory that it does not share; bfloat16 by its bits."""
    import torch

    name = dtype_name(tensor)
    held = tensor.detach().cpu()
    if own and held.data_ptr() == tensor.data_ptr():
        held = held.clone()
    if name == "BF16":
        return HostArray.of(held.view(torch.int16).numpy().view(np.uint16), name)
    return HostArray.of(held.numpy())


def from_host(array: HostArray, device: Any, own: bool = True) -> Any:
    """The tensor that `host` was given, on `device`; with `own` in memory that it does not share with the array."""
    import torch

    bits = array.dtype == "BF16"
    numbers = array.numpy().view(np.int16) if bits else array.numpy()
    tensor = torch.tensor(numbers) if own or not numbers.flags.writeable else torch.from_numpy(numbers)
    return (tensor.view(torch.bfloat16) if bits else tensor).to(device)


def rebuilt(example: Any, layer: HostLayer) -> Any:
    """The layer that `layer` is of; `example` is one of this model that has seen a token.

    Raises:
        ValueError: it does not fit this model.
    """
    if layer.kind != kind(example):
        raise ValueError(f"There is a {layer.kind} where this model has a {kind(example)}.")
    expected = tensors(example)
    layer.expect_arrays(expected)
    shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    if "keys" in expected:
        held = _held(example, layer)
        shapes |= {side: (*shapes[side][:-2], held, shapes[side][-1]) for side in ("keys", "values")}
    new = {}
    for name, shape in shapes.items():
        array = layer.array(name, shape, (dtype_name(expected[name]),))
        # As in `host`: keys and values are never written into.
        new[name] = from_host(array, example.device, own=name not in ("keys", "values"))
    made = replaced(example, new)
    if hasattr(made, "cumulative_length"):
        made.cumulative_length = layer.counts["tokens"]
    return made


def _held(example: Any, layer: HostLayer) -> int:
    """How many rows keys and values have for the tokens it has seen."""
    seen = layer.counts["tokens"]
    if seen == 0:
        raise ValueError(f"A {layer.kind} has seen no tokens.")
    if "sliding_window" not in layer.counts:
        return seen
    layer.expect_counts(sliding_window=example.sliding_window)
    return min(seen, example.sliding_window - 1) if example.sliding_window > 1 else seen
