"""Augmentation of the rows of a table."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from search.train.augment.draws import Limits, chance, require_within
from search.train.augment.mixing import MOST_ALPHA, Mixed, mixed

_LIMITS: Limits = {"noise": (0.0, math.inf), "dropout": (0.0, 1.0), "swap": (0.0, 1.0), "mixup": (0.0, MOST_ALPHA)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """Which of `number` columns each feature is of, int64 (F,), and whether it indicates a word, bool (F,)."""

    of: Tensor
    words: Tensor
    number: int


@dataclass(frozen=True, kw_only=True)
class Table:
    """Changes rows (N, F); raises UsageError for a strength out of bounds.

    Where columns of words are several features, a value is all of them: a row never gets half a word.
    """

    noise: float = 0.0
    """Standard deviation of normal noise, in standard deviations of each feature; words have none (Bishop 1995)."""
    dropout: float = 0.0
    """Share of the values that become their feature's training mean (Vincent et al. 2008)."""
    swap: float = 0.0
    """Share of the values that become those of another example of the batch (Bahri et al. 2022)."""
    mixup: float = 0.0
    """Alpha of the shares in which two rows are blended (Zhang et al. 2018)."""

    def __post_init__(self) -> None:
        require_within(self, _LIMITS)

    def __call__(self, inputs: Tensor, columns: Columns | None = None) -> tuple[Tensor, Mixed | None]:
        """Return the rows changed, and who was mixed with whom; without `columns` each feature is one of numbers."""
        number = inputs.shape[1] if columns is None else columns.number
        if self.swap:
            others = torch.randint(len(inputs), (len(inputs), number), device=inputs.device)
            swapped = chance(inputs, self.swap, number)
            if columns is not None:
                others, swapped = others[:, columns.of], swapped[:, columns.of]
            inputs = torch.where(swapped, inputs.gather(0, others), inputs)
        if self.noise:
            noise = self.noise * torch.randn_like(inputs)
            inputs = inputs + (noise if columns is None else noise.masked_fill(columns.words, 0.0))
        if self.dropout:
            dropped = chance(inputs, self.dropout, number)
            inputs = inputs.masked_fill(dropped if columns is None else dropped[:, columns.of], 0.0)
        return mixed(inputs, mixup=self.mixup)
