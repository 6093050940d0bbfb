"""The weights of a transformers model, in whatever layers of ours they are, and what its cache keeps of a token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...backends.base import Watch
from ...request import Request
from .weights import Layer, Parts, Weight, active_share, attention_flops


def look(model: Any, request: Request) -> Parts:
    """The parts of a TorchModel, with its cache as it is for a request: in full precision always."""
    config = model.checkpoint.config if model.checkpoint is not None else {}
    return Parts(weights(model.model, config), layers(model, request), attention_flops(config))


def weights(model: Any, config: Any) -> list[Weight] | None:
    """Every weight of a transformers model once; None where it has experts and nothing says how many a token takes."""
    head, seen, found = model.get_output_embeddings(), set(), []
    shares = dict(_experts(model, config))
    if None in shares.values():
        return None
    # What a head shares with the embedding is read whole, so that the head goes first.
    modules = [(name, module) for name, module in model.named_modules() if module is not head]
    for name, module in [*([("", head)] if head is not None else []), *modules]:
        share = next((each for prefix, each in shares.items() if name == prefix or name.startswith(f"{prefix}.")), None)
        for tensor, weight in _of_module(module):
            key = _identity(tensor)
            if key in seen:
                continue
            seen.add(key)
            part = weight.share if share is None else weight.share * share
            found.append(
                Weight(weight.size, weight.numbers, part, share is not None, module is head, weight.multiplied)
            )
    return found


def layers(model: Any, request: Request) -> list[Layer]:
    """What each layer of a TorchModel keeps, as one token shows that it is fed."""
    import torch

    model.use_threads()
    cache = model.new_state(request, Watch())
    with torch.inference_mode():
        token = torch.zeros((1, 1), dtype=torch.long, device=_input_device(model))
        model.model(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return [_layer(each) for each in cache.layers]


def _input_device(model: Any) -> Any:
    here = (parameter.device for parameter in model.model.parameters() if not parameter.is_meta)
    return next(here, "cpu")


def _layer(layer: Any) -> Layer:
    from ...backends.torch_layers import tensors

    held = tensors(layer)
    row = sum(held[name].nbytes / held[name].shape[-2] for name in ("keys", "values") if name in held)
    state = sum(tensor.nbytes for name, tensor in held.items() if name not in ("keys", "values"))
    return Layer(row, getattr(layer, "sliding_window", None), state)


def _experts(model: Any, config: Any) -> Iterator[tuple[str, float | None]]:
    """Modules that hold experts, by name, with the share of them that a token goes to."""
    from torch import nn

    for name, module in model.named_modules():
        if not name.rpartition(".")[2].endswith("experts") or "shared" in name.rpartition(".")[2]:
            continue
        stacked = [each.shape[0] for each in module.parameters(recurse=False) if each.ndim >= 3]
        count = len(module) if isinstance(module, nn.ModuleList) else (stacked or [0])[0]
        if count:
            yield name, active_share(config, count)


def _of_module(module: Any) -> Iterator[tuple[Any, Weight]]:
    """The tensors that a module itself holds, each with what it is to a token."""
    from torch import nn

    from ...backends.torch_blocked import BlockedLinear
    from ...backends.torch_int4 import Int4Linear
    from ...backends.torch_int8 import Int8Linear
    from ...backends.torch_norm import RmsNorm

    held = {**module._parameters, **module._buffers}
    own = {name: tensor for name, tensor in held.items() if tensor is not None}
    if isinstance(module, nn.Embedding):
        rows, width = module.weight.shape
        yield module.weight, Weight(module.weight.nbytes, rows * width, 1 / rows, multiplied=False)
    elif isinstance(module, Int4Linear | Int8Linear):
        numbers = module.in_features * module.out_features
        names = ("packed", "scales") if isinstance(module, Int4Linear) else ("weight_numbers", "scale")
        yield own[names[0]], Weight(own[names[0]].nbytes, numbers)
        yield own[names[1]], Weight(own[names[1]].nbytes, 0)
        if "bias" in own:
            yield own["bias"], _plain(own["bias"])
    elif isinstance(module, BlockedLinear):
        blocks = module.weight_blocks
        numbers = module.in_features * module.out_features
        yield blocks, Weight(numbers * blocks.dtype.itemsize, numbers)
        if module.bias is not None:
            yield module.bias, _plain(module.bias)
    elif isinstance(module, RmsNorm):
        yield own["factors"], _plain(own["factors"])  # which stand in the place of its weights
    else:
        # Buffers that are not saved, such as the frequencies of RoPE, are worked out and no weights.
        for name, tensor in own.items():
            if name not in module._non_persistent_buffers_set:
                yield tensor, _plain(tensor)


def _plain(tensor: Any) -> Weight:
    return Weight(tensor.nbytes, tensor.numel() if tensor.is_floating_point() else 0)


def _identity(tensor: Any) -> Any:
    # Blocks of oneDNN's have no address that could be asked for; no two layers share them.
    dense = tensor.layout is not _mkldnn() and not tensor.is_meta
    return (tensor.data_ptr(), tuple(tensor.shape)) if dense and tensor.numel() else id(tensor)


def _mkldnn() -> Any:
    import torch

    return torch._mkldnn
