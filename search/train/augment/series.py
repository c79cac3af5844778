"""Augmentation of series."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from search.train.augment.draws import Limits, per_example, require_within, stretch, uniform
from search.train.augment.mixing import MOST_ALPHA, Mixed, mixed

_LIMITS: Limits = {
    "noise": (0.0, math.inf),
    "scale": (0.0, 1.0),
    "shift": (0.0, 1.0),
    "crop": (0.0, 0.99),
    "mask": (0.0, 1.0),
    "mixup": (0.0, MOST_ALPHA),
}


@dataclass(frozen=True, kw_only=True)
class Series:
    """Changes series (N, C, L); raises UsageError for a strength out of bounds.

    Noise and scaling follow Um et al. 2017, cropping Le Guennec et al. 2016. A series that is shifted goes on with its
    first or last value.
    """

    noise: float = 0.0
    """Standard deviation of normal noise, in standard deviations of the inputs."""
    scale: float = 0.0
    """0.1: a whole series becomes 0.9 to 1.1 times as large."""
    shift: float = 0.0
    """Part of the length, at most, either way; in whole steps."""
    crop: float = 0.0
    """Part of the length, at most, that is cut off; the rest, from anywhere, is stretched to the whole (linear)."""
    mask: float = 0.0
    """Part of the length, in a row, that becomes the training mean (Park et al. 2019)."""
    mixup: float = 0.0
    """Alpha of the shares in which two series are blended (Zhang et al. 2018)."""

    def __post_init__(self) -> None:
        require_within(self, _LIMITS)

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Mixed | None]:
        """Return the series changed, and who was mixed with whom."""
        if self.shift or self.crop:
            inputs = self._moved(inputs)
        if self.scale:
            inputs = inputs * per_example(uniform(inputs, 1 - self.scale, 1 + self.scale), inputs)
        if self.noise:
            inputs = inputs + self.noise * torch.randn_like(inputs)
        if self.mask:
            length = inputs.shape[-1]
            masked = stretch(max(1, round(self.mask * length)), length, inputs)
            inputs = inputs.masked_fill(masked.unsqueeze(1), 0.0)
        return mixed(inputs, mixup=self.mixup)

    def _moved(self, inputs: Tensor) -> Tensor:
        """Read each series at places that are shifted, or nearer to each other than its steps."""
        last = inputs.shape[-1] - 1
        left = uniform(inputs, 1 - self.crop, 1.0, 1)
        steps = torch.arange(last + 1, device=inputs.device, dtype=inputs.dtype)
        begins = (1 - left) * last * uniform(inputs, 0.0, 1.0, 1)
        places = begins + left * steps + (uniform(inputs, -self.shift, self.shift, 1) * (last + 1)).round()
        places = places.clamp(0, last)
        before = places.floor()
        low, high = (
            inputs.gather(2, at.long().clamp_max(last).unsqueeze(1).expand_as(inputs)) for at in (before, before + 1)
        )
        return torch.lerp(low, high, (places - before).unsqueeze(1).expand_as(inputs))
