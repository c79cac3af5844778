"""Softmax or least-squares regression."""

from __future__ import annotations

import math

from torch import Tensor, nn

from search.train.models.head import small_head


class Linear(nn.Module):
    """One linear layer over the flattened input: (N, *in_shape) -> (N, num_outputs)."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.head = small_head(math.prod(in_shape), num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits or values."""
        outputs: Tensor = self.head(inputs.flatten(1))
        return outputs
