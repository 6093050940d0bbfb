"""A linear layer with int8 weights for torch: whole-number products, scaled back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEVELS = 127

# Weights that are all zero have no largest to divide by.
TINY = 1e-30

# Rows that are quantised together: a head's weights in float32 beside those it has would be much.
ROWS_AT_ONCE = 8192

# What `torch._int_mm` asks for on CUDA: more than 16 rows, and widths that 8 divides.
CUDA_ROWS, CUDA_WIDTH = 17, 8


class Int8Linear(nn.Module):
    """nn.Linear with symmetric int8 weights, one scale per output, and inputs rounded to int8 with one scale per row.

    Each row is rounded alone and the products are added up as whole numbers, so a token's result is the same to the
    bit whatever is fed beside it: what is reused, batched or verified answers as what is fed one by one. Torch's own
    dynamic quantisation (`quantized.linear_dynamic`) has one scale for all rows of a call, and so has not.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        parts = [quantise(part) for part in linear.weight.detach().split(ROWS_AT_ONCE)]
        self.register_buffer("weight_numbers", torch.cat([numbers for numbers, _ in parts]).t())  # a view [K, N]
        self.register_buffer("scale", torch.cat([scale for _, scale in parts]))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().float())
        self.register_buffer("unit", self.scale.new_tensor(1 / LEVELS))  # a number of Python's takes 1 us to convert
        self._least_rows = CUDA_ROWS if linear.weight.is_cuda else 1

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in_features] to [..., out_features], in x's dtype."""
        held = self._buffers  # not through nn.Module.__getattr__: at one token that costs as much as an operation
        rows = x.reshape(-1, self.in_features).float()
        scale = rows.abs().amax(1, True).mul_(held["unit"])
        # A row of zeros is divided by zero: whatever number comes of that, times the scale it is zero again.
        y = self._product(torch.div(rows, scale).round_().char(), held["weight_numbers"]) * scale
        y = y.mul_(held["scale"]) if held["bias"] is None else torch.addcmul(held["bias"], y, held["scale"])
        return y.type_as(x).view(*x.shape[:-1], self.out_features)

    def _product(self, rows: Tensor, weight_numbers: Tensor) -> Tensor:
        """Whole-number products [rows, out_features] in int32."""
        missing = self._least_rows - rows.shape[0]
        if missing <= 0:
            return torch._int_mm(rows, weight_numbers)
        return torch._int_mm(nn.functional.pad(rows, (0, 0, 0, missing)), weight_numbers)[:-missing]


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers -127 … 127 [N, K] in int8 and scales [N] in float32 of weights [N, K]; a weight is number · scale."""
    scale = weight.abs().amax(1, keepdim=True).float().clamp_min_(TINY) / LEVELS
    return (weight / scale).round_().to(torch.int8), scale.squeeze(1)


def takes(linear: nn.Linear) -> bool:
    """Whether the shape can be multiplied so on the device that the layer is on."""
    widths = linear.in_features, linear.out_features
    return linear.weight.device.type != "cuda" or all(width % CUDA_WIDTH == 0 for width in widths)
