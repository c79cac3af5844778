"""Losses of a stack of networks: outputs (M, N, C) and targets (M, N) in, a mean loss for each network (M,) out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from search.train.losses import HardLoss, Loss, OwnLoss

StackedLoss = Callable[[Tensor, Tensor], Tensor]


def stacked_loss(losses: Sequence[Loss], like: Tensor) -> StackedLoss:
    """Return the losses of networks as one, computed in the type and on the device of `like`."""
    first = losses[0]
    if isinstance(first, OwnLoss):
        return _own(first)
    hard = [loss for loss in losses if isinstance(loss, HardLoss)]
    return _classes(hard, like) if hard[0].task == "classification" else _values(hard, like)


def _own(loss: OwnLoss) -> StackedLoss:
    no_indices = torch.empty(0, dtype=torch.int64)
    stacked: StackedLoss = torch.func.vmap(lambda outputs, targets: loss(outputs, targets, no_indices))
    return stacked


def _values(losses: Sequence[HardLoss], like: Tensor) -> StackedLoss:
    variance = like.new_tensor([loss.target_std**2 for loss in losses])
    return lambda outputs, targets: (outputs.squeeze(2) - targets).square().mean(dim=1) / variance


def _classes(losses: Sequence[HardLoss], like: Tensor) -> StackedLoss:
    """As torch has it: a share of the loss is that of a class drawn at random, weighted by that class."""
    smoothing = like.new_tensor([loss.label_smoothing for loss in losses])
    smooth = any(loss.label_smoothing for loss in losses)
    given = next((loss.class_weights for loss in losses if loss.class_weights is not None), None)
    weights: Tensor | None = None
    if given is not None:
        ones = torch.ones_like(given)
        weights = torch.stack([ones if loss.class_weights is None else loss.class_weights for loss in losses]).to(like)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        logs = outputs.log_softmax(dim=2)
        chosen = functional.nll_loss(logs.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
        if weights is not None:
            chosen = chosen * weights.gather(1, targets)
        hard = chosen.mean(dim=1)
        if not smooth:
            return hard
        uniform = -(logs if weights is None else logs * weights.unsqueeze(1)).mean(dim=2).mean(dim=1)
        return torch.where(smoothing > 0, (1 - smoothing) * hard + smoothing * uniform, hard)

    return loss
