"""What the choice of an attention path depends on: heads, lengths, dtype, quantisation and mask of one call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

MaskKind = Literal["none", "causal", "bool", "additive"]

# What queries may be of; anything else is left to mlx-lm.
DTYPES = ("bfloat16", "float16", "float32")

# Queries a decode kernel takes at once: one token, or the few that speculative decoding verifies.
DECODE_QUERIES = 8


@dataclass(frozen=True, slots=True)
class AttentionConfig:
    """One attention call. Lengths in tokens, `dtype` of the queries; `kv_bits` None is a cache not quantised."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    query_len: int
    kv_len: int
    batch: int = 1
    dtype: str = "bfloat16"
    kv_bits: int | None = None
    group_size: int | None = None
    mask: MaskKind = "none"
    per_head_mask: bool = False
    sinks: bool = False

    @property
    def attention_pattern(self) -> str:
        """`MHA`, `GQA-4:1` (four query heads to a KV head) or `MQA-8:1` (all of them share one)."""
        if self.num_heads == self.num_kv_heads:
            return "MHA"
        name = "MQA" if self.num_kv_heads == 1 else "GQA"
        return f"{name}-{self.num_heads // self.num_kv_heads}:1"

    @property
    def ratio(self) -> int:
        """Query heads to one KV head."""
        return self.num_heads // self.num_kv_heads

    @property
    def decodes(self) -> bool:
        """Whether it is a decode step, a few queries over many keys, and not a piece of a prompt."""
        return self.query_len <= DECODE_QUERIES

    @property
    def shape_class(self) -> AttentionConfig:
        """The configuration that stands for all that are tuned together: lengths rounded up to powers of two."""
        return replace(self, query_len=_power(self.query_len), kv_len=_power(self.kv_len))

    def __str__(self) -> str:
        cache = self.dtype if self.kv_bits is None else f"{self.kv_bits}-bit group {self.group_size}"
        rest = "" if self.mask == "none" else f", {self.mask} mask"
        return (
            f"{self.attention_pattern} {self.num_heads} heads × {self.head_dim}, "
            f"{self.query_len} × {self.kv_len}, {cache} cache{rest}"
        )


def _power(length: int) -> int:
    return 1 << (length - 1).bit_length()
