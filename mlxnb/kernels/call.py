"""One attention call with everything that a path needs to compute it, and nothing that names the path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .config import AttentionConfig, MaskKind

# MLX arrays have no types here: this layer must import where MLX is absent.
Array = Any


@dataclass(frozen=True, slots=True)
class Call:
    """Queries [B, heads, L, head_dim]; keys and values [B, kv_heads, S, head_dim], or when `bits` is set the triples
    (packed, scales, biases) of MLX's affine quantisation. `scale` multiplies the scores. `mask` is None, "causal" (for
    which query i stands at position S − L + i), or an array of rank 2–4 as in `masks.grouped`, boolean (True may look)
    or additive. `sinks` are [heads] logits that take part in the softmax's sum and have no value.
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
        batch, heads, length, head_dim = self.queries.shape
        plain = self.keys if self.bits is None else self.keys[0]
        return AttentionConfig(
            num_heads=heads,
            num_kv_heads=plain.shape[1],
            head_dim=head_dim,
            query_len=length,
            kv_len=plain.shape[2],
            batch=batch,
            dtype=str(self.queries.dtype).removeprefix("mlx.core."),
            kv_bits=self.bits,
            group_size=self.group_size if self.bits is not None else None,
            mask=_mask_kind(self.mask),
            per_head_mask=_with_heads(self.mask),
            sinks=self.sinks is not None,
        )


def _mask_kind(mask: Array | str | None) -> MaskKind:
    if mask is None:
        return "none"
    if isinstance(mask, str):
        return "causal"
    return "bool" if "bool" in str(mask.dtype) else "additive"


def _with_heads(mask: Array | str | None) -> bool:
    """Whether a mask differs from one query head to another."""
    return mask is not None and not isinstance(mask, str) and mask.ndim > 2 and mask.shape[-3] > 1
