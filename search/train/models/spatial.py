"""Layers of convolutional networks, for series and for pictures."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Spatial:
    """The layers that go along `axes` axes; a batch is (N, C, L) with one of them, (N, C, H, W) with two."""

    axes: tuple[int, ...]
    convolution: type[nn.Conv1d] | type[nn.Conv2d]
    norm: type[nn.BatchNorm1d] | type[nn.BatchNorm2d]
    pool: type[nn.MaxPool1d] | type[nn.MaxPool2d]
    dropout: type[nn.Dropout1d] | type[nn.Dropout2d]

    def convolve(self, size_in: int, size_out: int, kernel: int, stride: int = 1) -> nn.Conv1d | nn.Conv2d:
        """Return a convolution for a batch norm behind it, initialised after He et al. 2015.

        It has no bias, for the norm has one, and an odd kernel leaves the size as it is, but for the stride.
        """
        layer = self.convolution(size_in, size_out, kernel, stride=stride, padding=kernel // 2, bias=False)
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        return layer


SPATIAL = {
    1: Spatial((2,), nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d, nn.Dropout1d),
    2: Spatial((2, 3), nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.Dropout2d),
}
"""Layers by the number of axes."""
