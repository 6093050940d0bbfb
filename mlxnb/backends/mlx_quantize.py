"""Quantises a model in MLX's own format while it is loaded."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..decision import Accepted, Decision, Rejected

BITS = {"int8": 8, "int4": 4}
GROUPS = (64, 32)  # the first that divides a layer's width

WORTH_SAYING = 0.02


def quantise(model: Any, kind: str) -> Decision:
    """Quantise `model`, which may be lazy, as mlx-lm's `convert -q` does; embeddings and a tied head among the rest.

    Layers whose width no group divides, be it ours or the one that the family's own rule sets, and those that the rule
    leaves out stay in full precision. One layer after the other is worked out and lets its full weights go.
    """
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten

    groups: list[int] = []

    def plan(path: str, module: Any) -> bool | dict[str, Any]:
        group, allowed = _group(module), getattr(model, "quant_predicate", None)
        if group is None:
            return False
        verdict = True if allowed is None else allowed(path, module)
        if not verdict:
            return False
        settings = {"group_size": group, "bits": BITS[kind], **(verdict if isinstance(verdict, dict) else {})}
        if module.weight.shape[-1] % settings["group_size"]:
            return False
        groups.append(settings["group_size"])
        return settings

    try:
        nn.quantize(model, class_predicate=plan)
    except ValueError as err:  # before any layer was replaced
        return Rejected(f"quantize {kind}", f"mlx cannot: {' '.join(str(err).split()[:30])}", "leave out quantize")
    for _, module in tree_flatten(model.leaf_modules(), is_leaf=nn.Module.is_module):
        mx.eval(module.parameters())
    if not groups:
        return Rejected(f"quantize {kind}", "no layer's width can be divided into groups of 32", "leave out quantize")
    sizes = " and ".join(map(str, sorted(set(groups), reverse=True)))
    return Accepted(f"quantize {kind}", ", ".join([kind, f"group {sizes}", *_others(model, BITS[kind])]))


def _others(model: Any, bits: int) -> list[str]:
    """The share of the quantised weights that the family's own rule has in other than `bits`, such as "47% int8"."""
    from mlx.nn import Module
    from mlx.utils import tree_flatten

    held: Counter[int] = Counter()
    for _, module in tree_flatten(model.leaf_modules(), is_leaf=Module.is_module):
        if own := getattr(module, "bits", None):
            held[own] += module.weight.size * 32 // own
    whole = sum(held.values())
    shares = {own: count / whole for own, count in sorted(held.items()) if own != bits}
    return [f"{f'{share:.0%}' if share >= 0.01 else 'under 1%'} int{own}" for own, share in shares.items()]


def left_in_full(model: Any) -> str | None:
    """What a person should know of the weights that are not quantised; None where they are few."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten

    quantised = full = 0
    for _, module in tree_flatten(model.leaf_modules(), is_leaf=nn.Module.is_module):
        bits = getattr(module, "bits", None)
        for name, array in module.parameters().items():
            if bits and name == "weight":
                quantised += array.size * 32 // bits
            elif not bits and array.ndim > 1 and mx.issubdtype(array.dtype, mx.floating):
                full += array.size
    if full < WORTH_SAYING * (full + quantised):
        return None
    return f"{full / (full + quantised):.0%} of the weights stay in full precision: no group divides their rows"


def _group(module: Any) -> int | None:
    if not hasattr(module, "to_quantized"):
        return None
    return next((size for size in GROUPS if module.weight.shape[-1] % size == 0), None)
