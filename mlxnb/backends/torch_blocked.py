"""A linear layer whose weights lie in the blocks that oneDNN multiplies with."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BlockedLinear(nn.Module):
    """nn.Linear on a CPU with its weights in oneDNN's own layout, which torch's operator would else make in each call.

    Products are added up in float32 as before, in another order. A row comes out the same to the bit whatever is
    beside it.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight_blocks = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.register_parameter("bias", linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in_features] to [..., out_features], in x's dtype."""
        bias = self._parameters["bias"]  # not through nn.Module.__getattr__, which costs as much as a small operation
        made: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight_blocks, bias, "none", [], "")
        return made
