"""A small convolutional network."""

from __future__ import annotations

from torch import Tensor, nn

from search.errors import UsageError
from search.train.models.head import small_head


class CNN(nn.Module):
    """Blocks of two convolutions with batch norm, halved between, averaged over space: (N, C, H, W) -> (N, outputs).

    Channels double from block to block; the shape follows VGG (Simonyan and Zisserman 2015) with the global pooling
    of Lin et al. 2014. Raises UsageError for inputs that are no pictures.
    """

    def __init__(
        self, in_shape: tuple[int, ...], num_outputs: int, channels: int, blocks: int, kernel: int, dropout: float
    ) -> None:
        super().__init__()
        if len(in_shape) != 3:
            raise UsageError(f"model=cnn: needs pictures (C, H, W), the data has shape {in_shape}; use model=mlp")
        size_in, width = in_shape[0], channels
        layers: list[nn.Module] = []
        for block in range(blocks):
            if block:
                layers += [nn.MaxPool2d(2, ceil_mode=True), nn.Dropout2d(dropout)]
            for _ in range(2):
                layers += [_convolution(size_in, width, kernel), nn.BatchNorm2d(width), nn.ReLU()]
                size_in = width
            width *= 2
        self.body = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = small_head(size_in, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits or values."""
        outputs: Tensor = self.head(self.dropout(self.body(inputs).mean(dim=(2, 3))))
        return outputs


def _convolution(size_in: int, size_out: int, kernel: int) -> nn.Conv2d:
    layer = nn.Conv2d(size_in, size_out, kernel, padding=kernel // 2, bias=False)  # batch norm has the bias
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer
