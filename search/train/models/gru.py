"""A recurrent network of gated units."""

from __future__ import annotations

import math

from torch import Tensor, nn

from search.train.models.head import small_head
from search.train.models.inputs import filled_up, one_of, require_axes

POOLINGS = {name: name for name in ("last", "mean", "max", "flatten")}


class GRU(nn.Module):
    """Gated recurrent units (Cho et al. 2014) along a series (N, C, L), or down a picture's rows (N, C, H, W).

    Returns (N, num_outputs). The network reads `frame` steps or rows at a time, and is that much faster; zeros fill up
    the last frame. `pooling` makes one vector of the states: the last ones, their mean or largest over all frames, or
    all side by side. Recurrent weights start orthogonal (Saxe et al. 2014), the others after Glorot and Bengio 2010.
    Raises UsageError for inputs that are neither series nor pictures, and for a pooling of another name.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        num_outputs: int,
        hidden: int,
        layers: int,
        dropout: float,
        bidirectional: bool = True,
        pooling: str = "max",
        frame: int = 1,
    ) -> None:
        super().__init__()
        require_axes("gru", in_shape)
        self.pooling = one_of("model.pooling", pooling, POOLINGS)
        self.frame = frame
        channels, num_steps, *columns = in_shape
        self.recurrent = nn.GRU(
            input_size=channels * math.prod(columns) * frame,
            hidden_size=hidden,
            num_layers=layers,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,  # it is between layers, and PyTorch warns where there are none
            bidirectional=bidirectional,
        )
        _initialise(self.recurrent)
        self.dropout = nn.Dropout(dropout)
        size = hidden * (2 if bidirectional else 1)
        self.head = small_head(size * math.ceil(num_steps / frame) if pooling == "flatten" else size, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits or values."""
        steps = filled_up(inputs.movedim(2, -1), self.frame, axes=1).flatten(1, -2)  # (N, features, steps)
        frames = steps.reshape(*steps.shape[:2], -1, self.frame).movedim(2, 1).flatten(2)
        states, final = self.recurrent(frames)  # (N, frames, size), (layers * directions, N, hidden)
        outputs: Tensor = self.head(self.dropout(self._pooled(states, final)))
        return outputs

    def _pooled(self, states: Tensor, final: Tensor) -> Tensor:
        if self.pooling == "mean":
            return states.mean(dim=1)
        if self.pooling == "max":
            return states.amax(dim=1)
        if self.pooling == "flatten":
            return states.flatten(1)
        directions = 2 if self.recurrent.bidirectional else 1
        return final[-directions:].movedim(0, 1).flatten(1)


def _initialise(recurrent: nn.GRU) -> None:
    """Draw the weights of each of the three gates, which PyTorch keeps in one matrix."""
    for name, weights in recurrent.named_parameters():
        if name.startswith("bias"):
            nn.init.zeros_(weights)
            continue
        for gate in weights.detach().chunk(3):
            if name.startswith("weight_hh"):
                nn.init.orthogonal_(gate)
            else:
                nn.init.xavier_uniform_(gate)
