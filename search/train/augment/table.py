"""Augmentation of the rows of a table."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from search.train.augment.draws import Limits, chance, require_within
from search.train.augment.mixing import MOST_ALPHA, Mixed, mixed

_LIMITS: Limits = {"noise": (0.0, math.inf), "dropout": (0.0, 1.0), "swap": (0.0, 1.0), "mixup": (0.0, MOST_ALPHA)}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Changes rows (N, F); raises UsageError for a strength out of bounds."""

    noise: float = 0.0
    """Standard deviation of normal noise, in standard deviations of each feature (Bishop 1995)."""
    dropout: float = 0.0
    """Share of the values that become their feature's training mean (Vincent et al. 2008)."""
    swap: float = 0.0
    """Share of the values that become those of another example of the batch (Bahri et al. 2022)."""
    mixup: float = 0.0
    """Alpha of the shares in which two rows are blended (Zhang et al. 2018)."""

    def __post_init__(self) -> None:
        require_within(self, _LIMITS)

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Mixed | None]:
        """Return the rows changed, and who was mixed with whom."""
        if self.swap:
            others = torch.randint(len(inputs), tuple(inputs.shape), device=inputs.device)
            swapped = chance(inputs, self.swap, inputs.shape[1])
            inputs = torch.where(swapped, inputs.gather(0, others), inputs)
        if self.noise:
            inputs = inputs + self.noise * torch.randn_like(inputs)
        if self.dropout:
            inputs = inputs.masked_fill(chance(inputs, self.dropout, inputs.shape[1]), 0.0)
        return mixed(inputs, mixup=self.mixup)
