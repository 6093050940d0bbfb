"""Which attention calls the Metal kernels compute, and why not the others."""

from __future__ import annotations

from ..decision import Accepted, Decision, Rejected
from .config import DECODE_QUERIES, DTYPES, AttentionConfig
from .tiling import HEAD_DIMS, most_rows


def takes(name: str, config: AttentionConfig) -> Decision:
    """Whether the kernel of that name computes this configuration, and if not, why and what would."""
    packed = name == "decode_quantized"
    if packed != (config.kv_bits is not None):
        here = "quantised" if config.kv_bits else "not quantised"
        return Rejected(name, f"the cache is {here}", "Take the kernel for such a cache.")
    if config.dtype not in DTYPES:
        return Rejected(name, f"the dtype is {config.dtype}", f"It takes {', '.join(DTYPES)}.")
    if config.head_dim not in HEAD_DIMS:
        return Rejected(name, f"head_dim is {config.head_dim}", f"It takes {', '.join(map(str, HEAD_DIMS))}.")
    if config.num_heads % config.num_kv_heads:
        return Rejected(name, f"{config.num_heads} heads do not share {config.num_kv_heads} KV heads evenly")
    if config.kv_len < 1:
        return Rejected(name, "there are no keys", "It takes one or more.")
    refused = _refused_packing(name, config) if packed else None
    if refused is None and name != "prefill_dense":
        refused = _refused_height(name, config)
    return Accepted(name, config.attention_pattern) if refused is None else refused


def _refused_packing(name: str, config: AttentionConfig) -> Rejected | None:
    if config.kv_bits not in (4, 8):
        return Rejected(name, f"the cache has {config.kv_bits} bits", "It takes 4 or 8.")
    if config.group_size not in (32, 64):
        return Rejected(name, f"the groups have {config.group_size} values", "It takes 32 or 64.")
    if config.head_dim % config.group_size:
        return Rejected(
            name,
            f"head_dim {config.head_dim} is no multiple of group size {config.group_size}",
            "Take another group size.",
        )
    return None


def _refused_height(name: str, config: AttentionConfig) -> Rejected | None:
    if config.query_len > DECODE_QUERIES:
        return Rejected(name, f"there are {config.query_len} queries", f"It takes 1 to {DECODE_QUERIES}.")
    height, most = config.ratio * config.query_len, most_rows(config.head_dim, name == "decode_quantized")
    if height > most:
        return Rejected(name, f"{height} rows share a KV head (query heads × queries)", f"It takes up to {most}.")
    return None
