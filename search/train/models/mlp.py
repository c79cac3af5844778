"""A multilayer perceptron."""

from __future__ import annotations

import math

from torch import Tensor, nn

from search.train.models.head import small_head


class MLP(nn.Module):
    """`depth` hidden layers of `width` ReLU units over the flattened input: (N, *in_shape) -> (N, num_outputs)."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        size = math.prod(in_shape)
        for _ in range(depth):
            linear = nn.Linear(size, width)
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.ReLU(), nn.Dropout(dropout)]
            size = width
        self.body = nn.Sequential(*layers)
        self.head = small_head(size, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits or values."""
        outputs: Tensor = self.head(self.body(inputs))
        return outputs
