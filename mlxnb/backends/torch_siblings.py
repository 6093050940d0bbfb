"""Which linear layers of a transformers model are given the same input, so that they can be done as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# By their names in one module of transformers. Of mixtures of experts only those that every token goes through.
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
NOT_IN = ".experts."


def grouped(model: Any, going: Mapping[str, str]) -> list[list[str]]:
    """The names of `going` (each with what its layer is to become), those together that can be done as one.

    Siblings are that become the same, and that are called once each with one tensor when the model is fed a token.
    """
    if not hasattr(model, "config"):  # a part of a model cannot be fed a token
        return [[name] for name in going]
    groups = [group for group in _candidates(going) if _alike([model.get_submodule(name) for name in group])]
    calls = _calls(model, {name for group in groups for name in group}) if groups else {}
    firsts = {group[0]: group for group in groups if _one([calls.get(name) for name in group])}
    done = {name for group in firsts.values() for name in group}
    return [list(firsts.get(name, [name])) for name in going if name in firsts or name not in done]


def _candidates(going: Mapping[str, str]) -> list[list[str]]:
    found = []
    for name, kind in going.items():
        parent, dot, last = name.rpartition(".")
        for siblings in SIBLINGS:
            group = [f"{parent}{dot}{each}" for each in siblings]
            if last == siblings[0] and NOT_IN not in name and all(going.get(each) == kind for each in group):
                found.append(group)
    return found


def _alike(layers: list[Any]) -> bool:
    return len({(x.in_features, x.weight.dtype, x.weight.device, x.bias is None) for x in layers}) == 1


def _one(tensors: list[Any]) -> bool:
    return tensors[0] is not None and all(each is tensors[0] for each in tensors)


def _calls(model: Any, names: set[str]) -> dict[str, Any]:
    """The input that each of these layers was called with when one token went through; absent where not just once."""
    import torch

    seen: dict[str, list[Any]] = {name: [] for name in names}
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(lambda layer, given, seen=seen[name]: seen.append(given))
        for name in names
    ]
    try:
        with torch.inference_mode():
            token = torch.zeros((1, 1), dtype=torch.long, device=model.device)
            model(input_ids=token, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: given[0][0] for name, given in seen.items() if len(given) == 1 and len(given[0]) == 1}
