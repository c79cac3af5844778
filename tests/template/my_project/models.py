"""Networks of our own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ResidualNet(nn.Module):
    """A residual multilayer perceptron; `search` passes `in_shape` and `num_outputs`, the configuration the rest."""

    def __init__(self, in_shape: Sequence[int], num_outputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(in_shape).numel(), width))
        self.blocks = nn.ModuleList(nn.Sequential(nn.GELU(), nn.Linear(width, width)) for _ in range(depth))
        self.last = nn.Linear(width, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (N, *in_shape) to logits or values (N, num_outputs)."""
        hidden: Tensor = self.first(inputs)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        outputs: Tensor = self.last(hidden)
        return outputs
