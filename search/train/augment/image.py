"""Augmentation of pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from search.train.augment.draws import Limits, chance, per_example, require_within, stretch, uniform
from search.train.augment.mixing import MOST_ALPHA, Mixed, mixed

_LIMITS: Limits = {
    "shift": (0.0, 1.0),
    "rotate": (0.0, 180.0),
    "scale": (0.0, 10.0),
    "flip": (0.0, 1.0),
    "crop": (0.0, 0.99),
    "brightness": (0.0, math.inf),
    "contrast": (0.0, 1.0),
    "cutout": (0.0, 1.0),
    "mixup": (0.0, MOST_ALPHA),
    "cutmix": (0.0, MOST_ALPHA),
}


@dataclass(frozen=True, kw_only=True)
class Image:
    """Changes pictures (N, C, H, W); raises UsageError for a strength out of bounds.

    What is moved is moved in one interpolation (bilinear), and the border goes on outside of the picture: values that
    no picture has would tell the network what was done. A shift alone is in whole pixels and blurs nothing.
    """

    shift: float = 0.0
    """Part of height and width, at most, in each direction."""
    rotate: float = 0.0
    """Degrees, at most, either way."""
    scale: float = 0.0
    """0.1: up to 1.1 times larger or smaller."""
    flip: float = 0.0
    """Share of the examples that are mirrored left to right."""
    crop: float = 0.0
    """Part of height and width, at most, that is cut off; the rest, from anywhere, fills the picture."""
    brightness: float = 0.0
    """Added to a whole picture, at most, in standard deviations of the inputs."""
    contrast: float = 0.0
    """0.2: differences from a picture's mean become 0.8 to 1.2 times as large."""
    cutout: float = 0.0
    """Side of a square that becomes the training mean, as a part of the shorter side (DeVries and Taylor 2017)."""
    mixup: float = 0.0
    """Alpha of the shares in which two pictures are blended (Zhang et al. 2018)."""
    cutmix: float = 0.0
    """Alpha of the shares in which one is pasted into the other (Yun et al. 2019)."""

    def __post_init__(self) -> None:
        require_within(self, _LIMITS)

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Mixed | None]:
        """Return the pictures changed, and who was mixed with whom."""
        if self.flip:
            mirrored = per_example(chance(inputs, self.flip), inputs)
            inputs = torch.where(mirrored, inputs.flip(-1), inputs)
        if self.shift or self.rotate or self.scale or self.crop:
            inputs = self._moved(inputs)
        if self.brightness or self.contrast:
            inputs = self._relit(inputs)
        if self.cutout:
            height, width = inputs.shape[-2:]
            side = max(1, round(self.cutout * min(height, width)))
            rows, columns = stretch(side, height, inputs), stretch(side, width, inputs)
            inputs = inputs.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0.0)
        return mixed(inputs, mixup=self.mixup, cutmix=self.cutmix)

    def _moved(self, inputs: Tensor) -> Tensor:
        """Turn, scale, shift and crop by one affine map a picture, from places in the result to places in it."""
        height, width = inputs.shape[-2:]
        angle = uniform(inputs, -self.rotate, self.rotate) * (math.pi / 180)
        most = math.log1p(self.scale)
        left = uniform(inputs, 1 - self.crop, 1.0)
        factor = left * uniform(inputs, -most, most).exp()
        cosine, sine = factor * angle.cos(), factor * angle.sin()
        # In units of half a side, as the map is: a rotation is one of pixels, which are square, whatever the sides are.
        x, y = (self._offset(inputs, size, left) for size in (width, height))
        first = torch.stack([cosine, -sine * (height / width), x], dim=1)
        second = torch.stack([sine * (width / height), cosine, y], dim=1)
        grid = functional.affine_grid(torch.stack([first, second], dim=1), list(inputs.shape), align_corners=False)
        return functional.grid_sample(inputs, grid, padding_mode="border", align_corners=False)

    def _offset(self, inputs: Tensor, size: int, left: Tensor) -> Tensor:
        """Return how far the pictures move along a side of that many pixels, (N,), in halves of it."""
        pixels = (uniform(inputs, -self.shift, self.shift) * size).round()
        return pixels * (2 / size) * left + (1 - left) * uniform(inputs, -1.0, 1.0)

    def _relit(self, inputs: Tensor) -> Tensor:
        mean = inputs.mean(dim=(1, 2, 3), keepdim=True)
        factor = per_example(uniform(inputs, 1 - self.contrast, 1 + self.contrast), inputs)
        added = per_example(uniform(inputs, -self.brightness, self.brightness), inputs)
        return (inputs - mean) * factor + mean + added
