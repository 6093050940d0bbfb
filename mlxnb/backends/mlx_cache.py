"""The KV cache of one generation on the mlx backend: as the model makes it, quantised where that is asked for."""

from __future__ import annotations

from typing import Any

from ..request import KV_GROUP_SIZES
from .base import Watch

DEFAULT_GROUP = 64


def make_cache(model: Any, head_dim: int, bits: int | None, group: int | None, watch: Watch) -> list[Any]:
    """A cache for each layer, with `bits` quantised from the first token on, so that no prompt is held twice.

    Layers that keep a window, a recurrent state or a latent vector stay as they are; `watch.notes` says so.
    """
    from mlx_lm.models.cache import KVCache, QuantizedKVCache, make_prompt_cache

    caches = make_prompt_cache(model)
    if bits is None:
        return caches
    size = group_size(head_dim, group)
    if size is None:
        watch.notes.append(
            f"kv_bits {bits} not used: a head_dim of {head_dim} cannot be grouped by {group or '64 or 32'}"
        )
        return caches
    plain = [type(cache) is KVCache for cache in caches]
    if not all(plain):
        kept = len(plain) - sum(plain)
        watch.notes.append(f"kv_bits {bits} not used in {kept} of {len(plain)} layers: no plain KV cache there")
    if any(plain):
        watch.kv_bits, watch.kv_group_size = bits, size
    return [
        QuantizedKVCache(group_size=size, bits=bits) if is_plain else cache
        for is_plain, cache in zip(plain, caches, strict=True)
    ]


def group_size(head_dim: int, asked: int | None) -> int | None:
    """The group size to use: the one asked for, else 64, else 32; None where it does not divide `head_dim`."""
    sizes = (asked,) if asked else sorted((g for g in KV_GROUP_SIZES if g <= DEFAULT_GROUP), reverse=True)
    return next((size for size in sizes if head_dim and head_dim % size == 0), None)
