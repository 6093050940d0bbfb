"""Masks in one form: what broadcasts against scores [batch, kv_heads, ratio, queries, keys], at the right axes."""

from __future__ import annotations

from typing import Any

from ..errors import KernelError


def grouped(mask: Any, num_heads: int, num_kv_heads: int) -> Any:
    """An array mask of rank 2–4, [L, S], [B or heads, L, S] or [B, heads, L, S], as [B, kv_heads, ratio, L, S].

    Every axis but the last two may be 1. As in `mx.fast.scaled_dot_product_attention`, a mask of rank 3 broadcasts
    from the right, so that its first axis is the heads'.

    Raises:
        KernelError: another rank, or heads that do not fit.
    """
    if not 2 <= mask.ndim <= 4:
        raise KernelError(f"The mask has the shape {tuple(mask.shape)}.", "It takes 2 to 4 axes, the last two L and S.")
    full = mask.reshape((1,) * (4 - mask.ndim) + tuple(mask.shape))
    batch, heads, queries, keys = full.shape
    if heads == 1:
        return full.reshape(batch, 1, 1, queries, keys)
    if heads != num_heads:
        raise KernelError(f"The mask has {heads} heads, the queries {num_heads}.", "It takes either those or 1.")
    return full.reshape(batch, num_kv_heads, num_heads // num_kv_heads, queries, keys)
