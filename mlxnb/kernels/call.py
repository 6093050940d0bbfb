"""One attention call with everything that a path needs to compute it, and nothing that names the path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .config import AttentionConfig

# MLX arrays have no types here: this layer must import where MLX is absent.
Array = Any


@dataclass(frozen=True, slots=True)
class Call:
    """Queries [B, heads, L, head_dim]; keys and values [B, kv_heads, S, head_dim], or when `bits` is set the triples
    (packed, scales, biases) of MLX's affine quantisation; `mask` None, "causal" or an array of rank 2–4; `sinks`
    [heads].
    """

    queries: Array
    keys: Array
    values: Array
    scale: float
    mask: Array | str | None = None
    sinks: Array | None = None
    bits: int | None = None
    group_size: int | None = None

    @property
    def value_width(self) -> int:
        """Numbers of a value in one head: head_dim, in all but a few models."""
        if self.bits is None:
            return int(self.values.shape[-1])
        return int(self.values[0].shape[-1]) * 32 // self.bits

    @property
    def config(self) -> AttentionConfig:
        """What the choice of a path depends on."""
        return AttentionConfig.of(self.queries, self.keys, self.mask, self.sinks, self.bits, self.group_size)
