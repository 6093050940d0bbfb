"""RMS normalisation in four or six small operations, where transformers' own classes take seven or nine."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RmsNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · (offset + weight) over the last dimension, in float32 and rounded once at the end.

    Source: Zhang and Sennrich, Root Mean Square Layer Normalization (https://arxiv.org/abs/1910.07467), equation 4.
    With n numbers in a row it is x / hypot(|x|, sqrt(n · eps)) times sqrt(n) · (offset + weight), and |x| is one pass.
    """

    def __init__(self, weight: nn.Parameter, eps: float, offset: float) -> None:
        super().__init__()
        self.weight, self.offset = weight, offset
        n = weight.shape[0]
        self.register_buffer("factors", (offset + weight.detach().float()) * n**0.5, persistent=False)
        self.register_buffer("least", weight.new_full((), (n * eps) ** 0.5, dtype=torch.float32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., n] to [..., n], in x's dtype. A row comes out the same to the bit whatever is beside it."""
        held = self._buffers  # not through nn.Module.__getattr__, which costs as much as a small operation
        rows = x.float()
        length = torch.linalg.vector_norm(rows, 2, -1, True).hypot_(held["least"])
        return torch.div(rows, length).mul_(held["factors"]).type_as(x)
