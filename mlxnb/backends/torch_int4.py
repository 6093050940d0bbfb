"""A linear layer with int4 weights for torch on a CPU, in groups of 32 that share a scale and an offset."""

from __future__ import annotations

import torch
from torch import Tensor, nn

GROUP = 32
LEVELS = 15
TINY = 1e-8

# What `_convert_weight_to_int4pack_for_cpu` asks of the number of outputs.
OUTPUTS = 16


class Int4Linear(nn.Module):
    """nn.Linear with int4 weights for torch's own kernel, which multiplies bfloat16 inputs by them.

    The kernel is made for bfloat16: in float32 and float16 torch falls back to plain loops, 50 times slower here, so
    inputs of those types are rounded for it. It works out each row alone, so a token's result is the same to the bit
    whatever is fed beside it. For that it is used at every number of rows, also where unpacking the weights and
    multiplying in bfloat16 gets a little ahead: at 256 rows of a 3072 x 1024 layer 5.2 ms against 4.4.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        numbers, scale, zero = quantise(linear.weight.detach())
        self.register_buffer("packed", torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1))
        self.register_buffer("scales", torch.stack([scale.t(), zero.t()], -1).contiguous())
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in_features] to [..., out_features], in x's dtype."""
        held = self._buffers  # not through nn.Module.__getattr__: at one token that costs as much as an operation
        rows = x.reshape(-1, self.in_features).bfloat16()
        y = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, held["packed"], GROUP, held["scales"]).type_as(x)
        y = y if held["bias"] is None else y + held["bias"]
        return y.view(*x.shape[:-1], self.out_features)


def takes(linear: nn.Linear) -> bool:
    """Whether the kernel is there for this shape on the device that the layer is on."""
    on_cpu = linear.weight.device.type == "cpu"
    return on_cpu and linear.in_features % GROUP == 0 and linear.out_features % OUTPUTS == 0


def quantise(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers 0 … 15 [N, K] in int32, scales and zeros [N, K / 32] in bfloat16, of weights [N, K].

    A weight is (number - 8) · scale + zero.
    """
    groups = weight.float().reshape(weight.shape[0], -1, GROUP)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    numbers, scale, zero = _rounded(groups, low, high)
    return numbers.to(torch.int32).reshape(weight.shape), scale.squeeze(-1), zero.squeeze(-1)


def _rounded(groups: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest numbers to `groups` between `low` and `high`, for the scale and zero that bfloat16 can say."""
    scale = ((high - low) / LEVELS).clamp_min_(TINY).bfloat16()
    zero = (low + 8 * scale).bfloat16()
    numbers = ((groups - zero) / scale.float()).round_().add_(8).clamp_(0, LEVELS)
    return numbers, scale, zero
