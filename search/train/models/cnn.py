"""A small convolutional network."""

from __future__ import annotations

from torch import Tensor, nn

from search.train.models.head import small_head
from search.train.models.inputs import require_axes
from search.train.models.spatial import SPATIAL


class CNN(nn.Module):
    """Blocks of two convolutions with batch norm, halved between, averaged over space.

    (N, C, H, W) or (N, C, L) -> (N, num_outputs). Channels double from block to block; the shape follows VGG
    (Simonyan and Zisserman 2015) with the global pooling of Lin et al. 2014, and dropout of whole channels between
    blocks (Tompson et al. 2015). Raises UsageError for inputs that are neither pictures nor series.
    """

    def __init__(
        self, in_shape: tuple[int, ...], num_outputs: int, channels: int, blocks: int, kernel: int, dropout: float
    ) -> None:
        super().__init__()
        spatial = SPATIAL[require_axes("cnn", in_shape)]
        size_in, width = in_shape[0], channels
        layers: list[nn.Module] = []
        for block in range(blocks):
            if block:
                layers += [spatial.pool(2, ceil_mode=True), spatial.dropout(dropout)]
            for _ in range(2):
                layers += [spatial.convolve(size_in, width, kernel), spatial.norm(width), nn.ReLU()]
                size_in = width
            width *= 2
        self.axes = spatial.axes
        self.body = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = small_head(size_in, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits or values."""
        outputs: Tensor = self.head(self.dropout(self.body(inputs).mean(dim=self.axes)))
        return outputs
