"""A multilayer perceptron."""

from __future__ import annotations

import math

from torch import Tensor, nn

from search.train.models.head import small_head
from search.train.models.inputs import one_of

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}
NORMS: dict[str, type[nn.BatchNorm1d] | type[nn.LayerNorm] | None] = {
    "none": None,
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
}


class MLP(nn.Module):
    """`depth` hidden layers of `width` units over the flattened input: (N, *in_shape) -> (N, num_outputs).

    A layer is linear, then norm, activation and dropout. Weights are those of He et al. 2015, for tanh of Glorot and
    Bengio 2010. Raises UsageError for an `activation` or a `norm` of another name than `ACTIVATIONS` and `NORMS` have.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        num_outputs: int,
        width: int,
        depth: int,
        dropout: float,
        activation: str = "relu",
        norm: str = "none",
    ) -> None:
        super().__init__()
        activate = one_of("model.activation", activation, ACTIVATIONS)
        norm_of = one_of("model.norm", norm, NORMS)
        layers: list[nn.Module] = [nn.Flatten()]
        size = math.prod(in_shape)
        for _ in range(depth):
            layers.append(_linear(size, width, activation))
            if norm_of is not None:
                layers.append(norm_of(width))
            layers += [activate(), nn.Dropout(dropout)]
            size = width
        self.body = nn.Sequential(*layers)
        self.head = small_head(size, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits or values."""
        outputs: Tensor = self.head(self.body(inputs))
        return outputs


def _linear(size_in: int, size_out: int, activation: str) -> nn.Linear:
    layer = nn.Linear(size_in, size_out)
    if activation == "tanh":
        nn.init.xavier_normal_(layer.weight, gain=nn.init.calculate_gain("tanh"))
    else:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer
