"""Puts shorter RMS norms in the place of a transformers model's, where a trial shows that they give the same."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from ..decision import Accepted, Decision, Rejected
from .cpu_time import times_as_fast

# Of the result, in the dtype's eps: transformers rounds to it up to twice on the way, this once, each by half of one.
BOUND = 2.0
FASTER, ROUNDS, TURNS = 1.3, 7, 20  # near 2 on CPUs; a choice that noise decides would change with each load
OFFSETS = (0.0, 1.0)  # Gemma's weights are what is added to 1


def take_norms(model: Any) -> list[Decision]:
    """Let a model that was just loaded normalise so; what was decided for each class of norms and width.

    Only where it is measured faster, and only classes that compute the plain formula, which a trial shows. In float32
    results then differ in their last bits; in shorter types they are rounded once and not twice.
    """
    import torch

    from .torch_norm import RmsNorm

    norms = [(name, module) for name, module in model.named_modules() if type(module).__name__.endswith("RMSNorm")]
    verdicts: dict[tuple[type, int], tuple[Decision, float]] = {}
    dtype = next(model.parameters()).dtype  # of the embedding, which what flows through the model has too
    with torch.inference_mode():
        for _, norm in norms:
            key = type(norm), _width(norm)
            if key not in verdicts:
                verdicts[key] = _worth(norm, dtype)
    for name, norm in norms:
        verdict, offset = verdicts[type(norm), _width(norm)]
        if verdict:
            model.set_submodule(name, RmsNorm(norm.weight, _eps(norm), offset))
    return [verdict for verdict, _ in verdicts.values()]


def _width(norm: Any) -> int:
    weight = getattr(norm, "weight", None)
    return weight.shape[0] if weight is not None and weight.ndim == 1 else 0


def _eps(norm: Any) -> float:
    return float(getattr(norm, "variance_epsilon", None) or getattr(norm, "eps", None) or 0)


def _worth(norm: Any, dtype: Any) -> tuple[Decision, float]:
    """Whether a norm is to be replaced, and the offset of its weights."""
    from .torch_norm import RmsNorm

    width, eps = _width(norm), _eps(norm)
    subject = f"{type(norm).__name__} of {width}"
    if not (width and eps) or len(list(norm.parameters())) > 1 or len(inspect.signature(norm.forward).parameters) != 1:
        return Rejected(subject, "it takes or holds more than the plain formula does"), 0
    if norm.weight.device.type != "cpu":
        return Rejected(subject, "measured on CPUs only"), 0
    made = {offset: RmsNorm(norm.weight, eps, offset) for offset in OFFSETS}
    offset = next((offset for offset in OFFSETS if _same(norm, made[offset], dtype)), None)
    if offset is None:
        return Rejected(subject, "it computes something else than the plain formula"), 0
    ratio = _speed(norm, made[offset], dtype)
    if ratio < FASTER:
        return Rejected(subject, f"measured at {ratio:.2f} of the speed of transformers' own"), 0
    return Accepted(subject, f"measured {ratio:.1f} times as fast as transformers' own"), offset


def _same(norm: Any, ours: Any, dtype: Any) -> bool:
    """Whether both give the same within BOUND, for rows in which eps decides, ordinary and long ones, and zeros."""
    import torch

    x = torch.randn((4, _width(norm)), generator=torch.Generator().manual_seed(0))
    x *= torch.tensor([[0.0], [_eps(norm) ** 0.5], [1.0], [300.0]])
    x = x.to(dtype)
    expected, got = norm(x), ours(x)
    if got.dtype != expected.dtype:
        return False
    near = BOUND * torch.finfo(x.dtype).eps + 8 * torch.finfo(torch.float32).eps  # sums in float32, in another order
    return bool(((got.double() - expected.double()).abs() <= near * expected.double().abs() + _tiny(x)).all())


def _tiny(x: Any) -> float:
    import torch

    return float(torch.finfo(x.dtype).smallest_normal)


def _speed(norm: Any, ours: Any, dtype: Any) -> float:
    """How many times as fast ours is for one token."""
    import torch

    x = torch.ones((1, 1, _width(norm)), dtype=dtype)
    what = f"norm {type(norm).__qualname__} {x.shape[-1]} {dtype}"
    return times_as_fast(what, partial(_turns, norm, x), partial(_turns, ours, x), ROUNDS)


def _turns(norm: Any, x: Any) -> None:
    for _ in range(TURNS):
        norm(x)
