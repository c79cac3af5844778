"""What training is made of below an epoch: the order of the examples, and one step of the optimiser."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn

from search.keyed import keyed_int
from search.train.batches import Batch
from search.train.data.arrays import Array
from search.train.losses import Loss


def seed_everything(seed: int) -> None:
    """Seed every generator that a network or its author may draw from."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def epoch_order(train: Array, seed: int, epoch: int, batch_size: int) -> Tensor:
    """Return the indices of the training examples in the order of that epoch, int64 (M,).

    The last one is left out where it would be a batch of its own: batch norm cannot take a single example.
    """
    generator = torch.Generator().manual_seed(keyed_int(seed, "order", epoch))
    indices = torch.as_tensor(train)
    order = indices[torch.randperm(len(indices), generator=generator)]
    return order[:-1] if len(order) % batch_size == 1 and len(order) > batch_size else order


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    batch: Batch,
    *,
    micro_batches: int = 1,
) -> Tensor:
    """Take one step of the optimiser; return the batch's loss summed over its examples, a scalar without gradient."""
    inputs, targets, indices = batch
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=targets.device)
    for part in _parts(micro_batches, inputs, targets, indices):
        mean = loss(model(part[0]), part[1], part[2])
        (mean * (len(part[1]) / len(targets))).backward()  # type: ignore[no-untyped-call]
        total = total + mean.detach() * len(part[1])
    optimizer.step()
    return total


def _parts(micro_batches: int, *batch: Tensor) -> list[tuple[Tensor, ...]]:
    """Return the batch in micro-batches, none of a single example: batch norm cannot take that."""
    number = min(micro_batches, max(1, len(batch[0]) // 2))
    return [batch] if number == 1 else list(zip(*(t.tensor_split(number) for t in batch), strict=True))
