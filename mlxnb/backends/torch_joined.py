"""Linear layers that are given the same input, done as one: the input is rounded once, and there is one product."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Joined:
    """One layer with the outputs of several, which `parts` stand in the places of.

    The first part that is called works out all, and the others take theirs while they are called with the same tensor.
    With another tensor, or twice with one, all is worked out again: more work, the same answer. The tensor must not be
    written into between two calls. Once the last part is taken nothing is held.
    """

    # Not an nn.Module, which takes 3 us to set an attribute.
    def __init__(self, layer: nn.Module, sizes: Sequence[int]) -> None:
        self.layer, self.sizes = layer, tuple(sizes)
        self._input: Tensor | None = None
        self._waiting: list[Tensor | None] = [None] * len(self.sizes)
        self._left = 0

    def parts(self) -> list[Part]:
        """A part for each of the layers that it does the work of, in their order."""
        return [Part(self, index) for index in range(len(self.sizes))]

    def take(self, x: Tensor, index: int) -> Tensor:
        """The outputs of one part for x [..., in_features]."""
        if self._input is not x or self._waiting[index] is None:
            self._input = None
            self._waiting = list(self.layer(x).split_with_sizes(self.sizes, -1))
            self._input, self._left = x, len(self.sizes)
        taken = self._waiting[index]
        assert taken is not None
        self._waiting[index] = None
        self._left -= 1
        if self._left == 0:
            self._input = None
        # With several rows a part is a view with gaps, which some attention cannot reshape.
        return taken.contiguous()


class Part(nn.Module):
    """One of the layers that were joined, in its place."""

    def __init__(self, joined: Joined, index: int) -> None:
        super().__init__()
        self.layer = joined.layer  # so that it is found among the modules of the model
        self.joined, self.index = joined, index

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in_features] to [..., the outputs of this part]."""
        return self.joined.take(x, self.index)


def join(linears: Sequence[nn.Linear]) -> nn.Linear:
    """One linear layer with the outputs of all, one after the other; all have a bias, or none."""
    made = nn.Linear(linears[0].in_features, sum(linear.out_features for linear in linears), device="meta")
    made.weight = nn.Parameter(torch.cat([linear.weight.detach() for linear in linears]), requires_grad=False)
    biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
    made.bias = nn.Parameter(torch.cat(biases), requires_grad=False) if biases else None
    return made
