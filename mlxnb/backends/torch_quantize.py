"""Quantises a transformers model's linear layers in place, after a trial has shown that it works on this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from ..decision import Accepted, Decision, Rejected
from . import torch_siblings
from .memory import memory_ran_out

# A layer with fewer outputs is no load to read, and often a router or a gate, where small errors decide much.
LEAST_OUTPUTS = 32

# How far the trial may be off, as a share of the length of the exact result. Rounding to steps of s adds noise of
# s / sqrt(12) a number. For normal weights the largest of a row of thousands is near 4 standard deviations, so in int8
# s = 4 / 127 of one and the noise 0.9 %, and the inputs' as much again; in int4 a group of 32 spans about 4.1, so
# s = 4.1 / 15 and the noise 7.9 %. The bounds leave room for other distributions and none for a kernel that is wrong.
BOUNDS = {"int8": 0.05, "int4": 0.2}

# How many times larger than the others a few channels are in the rows of the trial's inputs: what a transformer's
# layers are given has some such. A row in int8 has one scale, so that they take the levels from all others. With one
# channel in EVERY the noise of the inputs comes to 2.8 % of the result at 20 times and 3.5 % at 50, less in a narrow
# layer; of what the other channels say by themselves it is 4.5 and 11 %, as int8 with one scale a row is. The worst
# layer of the pocket model came to 4.0 and 4.4 %, and to 4.4 % with what it really is given. A kernel that heard the
# large channels alone would be 30 % off.
OUTLIERS, EVERY = (1, 20, 50), 256
WITH_OUTLIERS = {"int8": 0.1, "int4": 0.2}

# Share of the weights from which it is worth a note that they stay as they are.
WORTH_SAYING = 0.02

INSTEAD = "leave out quantize, or take another backend"


def quantised(load: Callable[[], Any], kind: str) -> tuple[Any, Decision]:
    """The model that `load` loads, with linear layers in `kind`; or in full precision, with what was in the way."""
    model = load()
    decision = quantise(model, kind)
    problem = broken(model) if decision else None
    if problem is None:
        return model, decision
    del model  # its full weights are gone, and a second model must not stand beside it
    return load(), Rejected(f"quantize {kind}", problem, INSTEAD)


def quantise(model: Any, kind: str) -> Decision:
    """Replace the linear layers of `model` on its device one by one, each letting its full weights go at once.

    Accepted says in a few words what they are now, and what stays as it was where that is much. Rejected leaves the
    model as it was. The head becomes a quantised copy where it shares its weights with the embedding, and is in int8
    with either kind: it decides between tokens, and 4 bits there cost more than they save.
    """
    subject, head = f"quantize {kind}", model.get_output_embeddings()
    linear = dict(_linear_layers(model))
    going = {name: made for name, layer in linear.items() if (made := _kind_for(layer, kind, layer is head))}
    if not going and kind == "int4" and any(layer.weight.device.type != "cpu" for layer in linear.values()):
        return Rejected(subject, "int4 is for CPUs", "take quantize int8")
    if not going:
        return Rejected(subject, f"none of its {len(linear)} linear layers has a shape for {kind} here", INSTEAD)
    tried = {made: linear[name] for name, made in going.items()}
    linear.clear()  # nothing else may hold a layer once it is replaced
    problem = next(filter(None, (_trial(tried.pop(made), made) for made in sorted(tried))), None)
    if problem:
        return Rejected(subject, problem, INSTEAD)
    in_head = next((going[name] for name in going if model.get_submodule(name) is head), None)
    del head
    for names in torch_siblings.grouped(model, going):
        _replace(model, names, _layer_class(going[names[0]]))
    return Accepted(subject, _words(Counter(going.values()), in_head))


def _replace(model: Any, names: list[str], layer: Any) -> None:
    """Put a quantised layer in the place of one, or of several that are then done as one."""
    from .torch_joined import Joined, join

    full = [model.get_submodule(name) for name in names]
    if len(full) == 1:
        made = [layer(full[0])]
    else:
        made = Joined(layer(join(full)), [linear.out_features for linear in full]).parts()
    for name, new in zip(names, made, strict=True):
        model.set_submodule(name, new)


def left_in_full(model: Any) -> str | None:
    """What a person should know of the weights that are not quantised, embeddings aside; None where they are few."""
    from torch import nn

    from .torch_int4 import Int4Linear
    from .torch_int8 import Int8Linear

    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    full = sum(p.numel() for p in model.parameters() if p.ndim > 1 and id(p) not in embeddings)
    quantised = [module for module in model.modules() if isinstance(module, Int4Linear | Int8Linear)]
    whole = full + sum(layer.in_features * layer.out_features for layer in quantised)
    if full < WORTH_SAYING * whole:
        return None
    dtype = str(model.dtype).removeprefix("torch.")
    return f"{full / whole:.0%} of the weights stay in {dtype}: experts, convolutions, or layers of an odd shape"


def _linear_layers(model: Any) -> Iterator[tuple[str, Any]]:
    from torch import nn

    for name, module in model.named_modules():
        # A class of its own made from Linear may use its weights in its own way.
        if type(module) is nn.Linear and module.out_features >= LEAST_OUTPUTS and module.weight.is_floating_point():
            yield name, module


def _kind_for(linear: Any, kind: str, is_head: bool) -> str | None:
    """What a layer is quantised to: int8 also where int4 does not take its shape; None for not at all."""
    from . import torch_int4, torch_int8

    if kind == "int4" and not is_head and torch_int4.takes(linear):
        return "int4"
    on_a_cpu = linear.weight.device.type == "cpu"
    return "int8" if (kind == "int8" or on_a_cpu) and torch_int8.takes(linear) else None


def _layer_class(kind: str) -> Any:
    from .torch_int4 import Int4Linear
    from .torch_int8 import Int8Linear

    return {"int8": Int8Linear, "int4": Int4Linear}[kind]


def _words(count: Counter[str], head: str | None) -> str:
    """Such as "int8", or "int4, group 32, head int8"."""
    from .torch_int4 import GROUP

    if "int4" not in count:
        return "int8"
    others = count["int8"] - (head == "int8")
    parts = ["int4", f"group {GROUP}", "head int8" if head == "int8" else "", f"{others} layers int8" if others else ""]
    return ", ".join(filter(None, parts))


def _trial(linear: Any, kind: str) -> str | None:
    """What is wrong with one layer in `kind`, held against itself in full; None if it is as near as it must be for
    every row of its inputs.
    """
    import torch

    x = _inputs(linear.in_features).to(linear.weight.device, linear.weight.dtype)
    try:
        with torch.inference_mode():
            exact, got = linear(x).float(), _layer_class(kind)(linear)(x).float()
    except Exception as err:  # a backend's probe: torch fails in its own ways where a kernel is missing
        if memory_ran_out(err):  # which is no fault of the kernel, and the next plan's affair
            raise
        return f"this torch cannot: {' '.join(f'{type(err).__name__}: {err}'.split()[:30])}"
    apart = torch.linalg.vector_norm(got - exact, dim=1) / torch.linalg.vector_norm(exact, dim=1).clamp_min(1e-30)
    for error, times in zip(apart.tolist(), OUTLIERS, strict=True):
        bound = BOUNDS[kind] if times == 1 else WITH_OUTLIERS[kind]
        if not error <= bound:
            off = f"{kind} was {error:.0%} off the full precision; up to {bound:.0%} is right"
            return f"in the trial of one layer {off}"
    return None


def _inputs(width: int) -> Any:
    """A row [width] of normal numbers for each of OUTLIERS, in which a few channels are so many times larger."""
    import torch

    x = torch.randn((len(OUTLIERS), width), generator=torch.Generator().manual_seed(0))
    for row, times in zip(x, OUTLIERS, strict=True):
        if times > 1:
            row[EVERY // 2 % width :: EVERY] = times
    return x


def broken(model: Any) -> str | None:
    """Why the quantised model cannot be used; None if a few tokens go through it and give numbers."""
    import torch

    try:
        with torch.inference_mode():
            tokens = torch.zeros((1, 3), dtype=torch.long, device=model.device)
            finite = bool(model(input_ids=tokens, use_cache=False).logits.isfinite().all())
    except Exception as err:  # a backend's probe: a family may use a layer's weights by itself
        if memory_ran_out(err):
            raise
        return f"the model does not run so: {' '.join(f'{type(err).__name__}: {err}'.split()[:30])}"
    return None if finite else "the model so changed gives numbers that are none"
