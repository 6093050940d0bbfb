"""mlx-lm's own attention, also while it is patched, and where it does not give the right answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..decision import Accepted, Decision, Rejected
from .call import Array, Call
from .config import AttentionConfig

NAME = "stock"


@dataclass(frozen=True, slots=True)
class _Quantised:
    """What mlx-lm reads off a quantised cache."""

    bits: int
    group_size: int


def original() -> Any:
    """mlx-lm's `scaled_dot_product_attention`, from underneath a patch of ours if there is one."""
    from mlx_lm.models import base

    entry = base.scaled_dot_product_attention
    return getattr(entry, "stock", entry)


def attention(call: Call) -> Array:
    """The stock result for a call."""
    cache = None if call.bits is None else _Quantised(call.bits, call.group_size or 64)
    # The quantised path scales its queries in place, which an alias of the caller's array would feel.
    queries = call.queries if cache is None else call.queries * 1
    return original()(queries, call.keys, call.values, cache, scale=call.scale, mask=call.mask, **_sinks(call))


def _sinks(call: Call) -> dict[str, Array]:
    return {} if call.sinks is None else {"sinks": call.sinks}


def takes(config: AttentionConfig, device: str) -> Decision:
    """Whether the stock path computes `config` rightly (mlx-lm 0.32.2: `quantized_scaled_dot_product_attention`)."""
    if config.kv_bits is not None and config.sinks:
        return Rejected(NAME, "mlx-lm has no attention sinks over a quantised cache")
    if config.kv_bits is not None and config.per_head_mask and config.ratio > 1:
        return Rejected(NAME, "mlx-lm reads a mask with heads over the wrong axis of a quantised cache")
    return Accepted(NAME, f"mlx-lm on {device}")
