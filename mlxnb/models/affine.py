"""MLX's affine quantisation in torch: a group of weights is a scale, a bias and whole numbers of a few bits each.

The packed numbers of a row are one little-endian stream of bits in uint32 words, so that 8 of them fill `bits` bytes.
Source: the documentation of `mlx.core.quantize`; the exact choice of scale and edge was held against MLX's CPU kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..conversion import BITS as BITS
from ..conversion import GROUPS as GROUPS

if TYPE_CHECKING:
    import torch

# Numbers that are worked on at a time: they take eight bytes each on the way.
AT_ONCE = 1 << 22

# The smallest scale, so that a group of equal weights divides by something.
LEAST_SCALE = 1e-7


def dequantise(
    packed: torch.Tensor, scales: torch.Tensor, biases: torch.Tensor, bits: int, dtype: torch.dtype
) -> torch.Tensor:
    """Weights [..., N] in `dtype` from packed [..., N·bits/32] words and scales and biases [..., N/group].

    Computed in float32 and rounded once, where MLX rounds the product to the scales' type and then the sum.
    """
    import torch

    numbers = packed.shape[-1] * 32 // bits
    rows = [t.reshape(-1, t.shape[-1]) for t in (packed, scales, biases)]
    whole = torch.empty((rows[0].shape[0], numbers), dtype=dtype)
    for part in _parts(whole):
        words, scale, bias = (t[part] for t in rows)
        grouped = _unpack(words, bits).float().reshape(*scale.shape, -1)
        whole[part] = grouped.mul_(scale.float()[..., None]).add_(bias.float()[..., None]).flatten(-2)
    return whole.reshape(*packed.shape[:-1], numbers)


def quantise(weight: torch.Tensor, group_size: int, bits: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Packed words [..., N·bits/32] in uint32, scales and biases [..., N/group] in the weight's type, of [..., N]."""
    import torch

    rows = weight.reshape(-1, weight.shape[-1])
    done = [_quantise(rows[part], group_size, bits) for part in _parts(rows)]
    packed, scales, biases = (torch.cat(pieces) for pieces in zip(*done, strict=True))
    lead = weight.shape[:-1]
    return packed.reshape(*lead, -1), scales.reshape(*lead, -1), biases.reshape(*lead, -1)


def _quantise(rows: torch.Tensor, group_size: int, bits: int) -> tuple[torch.Tensor, ...]:
    import torch

    groups = rows.float().reshape(rows.shape[0], -1, group_size)
    low, high = groups.amin(-1), groups.amax(-1)
    top = (1 << bits) - 1
    below = low.abs() > high.abs()
    scale = ((high - low) / top).clamp(min=LEAST_SCALE)
    scale = torch.where(below, scale, -scale)
    edge = torch.where(below, low, high)
    # The edge that lies further from zero becomes a whole multiple of the scale, so that zero stays zero.
    steps = (edge / scale).round()
    scale = torch.where(steps == 0, scale, edge / steps)
    bias = torch.where(steps == 0, torch.zeros_like(edge), edge)
    numbers = ((groups - bias[..., None]) / scale[..., None]).round().clamp(0, top).to(torch.int64)
    return _pack(numbers.flatten(-2), bits), scale.to(rows.dtype), bias.to(rows.dtype)


def _unpack(words: torch.Tensor, bits: int) -> torch.Tensor:
    """The numbers [R, N] of words [R, N·bits/32]."""
    import torch

    octets = words.contiguous().view(torch.uint8)
    if 8 % bits == 0:  # whole numbers in each byte: an eighth of the memory on the way
        return ((octets[..., None] >> _shifts(bits, 8 // bits).to(torch.uint8)) & ((1 << bits) - 1)).flatten(-2)
    octets = octets.reshape(words.shape[0], -1, bits).to(torch.int64)
    streams = (octets << _shifts(8, bits)).sum(-1)
    return ((streams[..., None] >> _shifts(bits, 8)) & ((1 << bits) - 1)).flatten(-2)


def _pack(numbers: torch.Tensor, bits: int) -> torch.Tensor:
    import torch

    streams = (numbers.reshape(numbers.shape[0], -1, 8) << _shifts(bits, 8)).sum(-1)
    octets = ((streams[..., None] >> _shifts(8, bits)) & 255).to(torch.uint8)
    return octets.flatten(-2).contiguous().view(torch.uint32)


def _shifts(step: int, count: int) -> torch.Tensor:
    import torch

    return torch.arange(count) * step


def _parts(rows: torch.Tensor) -> Iterator[slice]:
    step = max(1, AT_ONCE // max(1, rows.shape[-1]))
    return (slice(at, at + step) for at in range(0, rows.shape[0], step))
