"""Examples mixed with others of their batch, and their targets in the same shares."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Beta

MOST_ALPHA = 10.0
"""Beyond it nearly all shares are one half."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixed:
    """What became of a batch: each input is `share` of its own and the rest of that of input `partners[i]`.

    The loss is mixed likewise: share * loss(outputs, own targets) + (1 - share) * loss(outputs, partners' targets).
    `partners` is int64 (N,), `partners_on_cpu` the same on the CPU, where indices of examples are; `share` a
    floating-point scalar in 0 to 1: one for the batch, as in the papers' own code, so that any loss that is a mean can
    be mixed.
    """

    partners: Tensor
    partners_on_cpu: Tensor
    share: Tensor


def mixed(inputs: Tensor, *, mixup: float = 0.0, cutmix: float = 0.0) -> tuple[Tensor, Mixed | None]:
    """Mix inputs (N, *shape) with each other; a coin says for each batch which way where both are on.

    `mixup` and `cutmix` are the alphas of Beta(alpha, alpha), of which shares are drawn. 0: off. Who is mixed and in
    which share is drawn on the CPU, so that no step waits for the device.
    """
    if not mixup and not cutmix:
        return inputs, None
    on_cpu = torch.randperm(len(inputs))
    partners = on_cpu.to(inputs.device, non_blocking=True)
    blends = bool(torch.rand(()) < 0.5) if mixup and cutmix else bool(mixup)
    if blends:
        share = _share(inputs, mixup)
        found = torch.lerp(inputs[partners], inputs, share)
    else:
        found, share = _pasted(inputs, inputs[partners], cutmix)
    return found, Mixed(partners=partners, partners_on_cpu=on_cpu, share=share)


def _pasted(inputs: Tensor, others: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Return pictures (N, C, H, W) with a box of the others', and the share left (CutMix, Yun et al. 2019)."""
    side = (1 - _share(inputs, alpha)).sqrt()
    inside = [_stretch(side, size, inputs) for size in inputs.shape[-2:]]
    box = inside[0][:, None] & inside[1][None, :]
    return torch.where(box, others, inputs), 1 - box.to(inputs.dtype).mean()


def _stretch(part: Tensor, size: int, inputs: Tensor) -> Tensor:
    """Return a mask (size,) of a part of so many positions, in a row around a drawn one; the ends may cut it off."""
    length = (part * size).round().long()
    first = torch.randint(size, (), device=inputs.device) - length // 2
    positions = torch.arange(size, device=inputs.device)
    return (positions >= first) & (positions < first + length)


def _share(inputs: Tensor, alpha: float) -> Tensor:
    """Return a draw () of Beta(alpha, alpha)."""
    concentration = torch.tensor(alpha, dtype=torch.float32)  # halves cannot be drawn from it
    drawn: Tensor = Beta(concentration, concentration).sample()
    return drawn.to(inputs, non_blocking=True)
