"""Examples mixed with others of their batch, and their targets in the same shares."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Beta

from search.train.augment.draws import chance, per_example, stretch

MOST_ALPHA = 10.0
"""Beyond it nearly all shares are one half."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixed:
    """What became of a batch: input i is `share[i]` of its own and the rest of that of input `partners[i]`.

    The loss is mixed likewise: share * loss(output, own target) + (1 - share) * loss(output, partner's target).
    `partners` is int64 (N,), `share` floating point (N,) in 0 to 1.
    """

    partners: Tensor
    share: Tensor


def mixed(inputs: Tensor, *, mixup: float = 0.0, cutmix: float = 0.0) -> tuple[Tensor, Mixed | None]:
    """Mix inputs (N, *shape) with each other; a coin says for each example which way where both are on.

    `mixup` and `cutmix` are the alphas of Beta(alpha, alpha), of which shares are drawn. 0: off.
    """
    if not mixup and not cutmix:
        return inputs, None
    partners = torch.randperm(len(inputs), device=inputs.device)
    if not cutmix:
        found, share = _blended(inputs, inputs[partners], mixup)
    elif not mixup:
        found, share = _pasted(inputs, inputs[partners], cutmix)
    else:
        blended, blended_share = _blended(inputs, inputs[partners], mixup)
        pasted, pasted_share = _pasted(inputs, inputs[partners], cutmix)
        blends = chance(inputs, 0.5)
        found = torch.where(per_example(blends, inputs), blended, pasted)
        share = torch.where(blends, blended_share, pasted_share)
    return found, Mixed(partners=partners, share=share)


def _blended(inputs: Tensor, others: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Return weighted means of inputs and others, and the weights (mixup, Zhang et al. 2018)."""
    share = _shares(inputs, alpha)
    return torch.lerp(others, inputs, per_example(share, inputs)), share


def _pasted(inputs: Tensor, others: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Return pictures (N, C, H, W) with a box of the others', and the share left (CutMix, Yun et al. 2019)."""
    height, width = inputs.shape[-2:]
    part = (1 - _shares(inputs, alpha)).sqrt().unsqueeze(1)
    rows = stretch((part * height).round().long(), height, inputs)
    columns = stretch((part * width).round().long(), width, inputs)
    box = rows[:, None, :, None] & columns[:, None, None, :]
    share = 1 - box.to(inputs.dtype).sum(dim=(1, 2, 3)) / math.prod((height, width))
    return torch.where(box, others, inputs), share


def _shares(inputs: Tensor, alpha: float) -> Tensor:
    """Return draws (N,) of Beta(alpha, alpha)."""
    concentration = inputs.new_full((len(inputs),), alpha)
    drawn: Tensor = Beta(concentration, concentration).sample()
    return drawn
