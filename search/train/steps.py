"""What training is made of below an epoch: the order of the examples, and one step of the optimiser."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import WeightedRandomSampler

from search.keyed import keyed_int
from search.train.augment import Augment
from search.train.batches import Batch
from search.train.data.arrays import Array, Dataset
from search.train.estimator import Estimator
from search.train.losses import Loss
from search.train.plan import Plan, examples_an_epoch


class NonFiniteError(Exception):
    """A loss or a prediction became NaN or infinite."""


Guard = Callable[[nn.Module, Tensor, Tensor | None, Tensor], None]
"""(network, its inputs, what an augmentation made of them, standardised, the loss)."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a step does beside following the gradient."""

    augment: Augment | None = None
    clip_norm: float | None = None
    """The norm of all gradients together is scaled down to this (Pascanu et al. 2013)."""
    clip_value: float | None = None
    """Each entry of a gradient is cut to within this on either side of 0; before the norm, where both are set."""
    autocast: torch.dtype | None = None
    """The type that matrix products are computed in; weights stay float32 (Micikevicius et al. 2018)."""
    scaler: torch.amp.GradScaler | None = None
    """Scales the loss, so that small gradients do not vanish in float16."""


PLAIN = Rules()


def seed_everything(seed: int) -> None:
    """Seed every generator that a network or its author may draw from."""
    # torch.manual_seed would, without a GPU in use, write down where it was called: a millisecond for each epoch.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def epoch_order(train: Array, seed: int, epoch: int, step_size: int) -> Tensor:
    """Return the indices of the training examples in the order of that epoch, int64 (M,)."""
    generator = torch.Generator().manual_seed(keyed_int(seed, "order", epoch))
    indices = torch.as_tensor(train)
    order = indices[torch.randperm(len(indices), generator=generator)]
    return order[: examples_an_epoch(len(order), step_size)]


def balanced_order(train: Array, classes: Array, seed: int, epoch: int, step_size: int) -> Tensor:
    """Return indices of training examples drawn with replacement, each class as often as any other, int64 (M,).

    `classes` are those of the training examples, in the same order.
    """
    generator = torch.Generator().manual_seed(keyed_int(seed, "order", epoch))
    weights = 1.0 / np.bincount(classes)[classes]
    number = examples_an_epoch(len(train), step_size)
    drawn = WeightedRandomSampler(weights.tolist(), number, replacement=True, generator=generator)
    return torch.as_tensor(train)[list(drawn)]


def order_of(dataset: Dataset, plan: Plan, seed: int, epoch: int) -> Tensor:
    """Return the indices of an epoch's training examples in the order that the plan's sampling has, int64 (M,).

    Where an epoch takes but a part of them it is shuffled, never balanced: inputs that a teacher alone knows have no
    class.
    """
    train = dataset.split.train
    if plan.drawn is not None:
        return epoch_order(train, seed, epoch, plan.step_size)[: examples_an_epoch(plan.drawn, plan.step_size)]
    if plan.sampling == "balanced":
        return balanced_order(train, dataset.examples.targets[train], seed, epoch, plan.step_size)
    return epoch_order(train, seed, epoch, plan.step_size)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    batch: Batch,
    *,
    micro_batches: int = 1,
    rules: Rules = PLAIN,
    guard: Guard | None = None,
) -> Tensor:
    """Take one step of the optimiser; return the batch's loss summed over its examples, a scalar without gradient.

    `guard` is called before the gradients are taken; it raises to end the training.
    """
    inputs, targets, indices = batch
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=targets.device)
    for part in _parts(micro_batches, inputs, targets, indices):
        mean, changed = _mean_loss(model, loss, part, rules)
        if guard is not None:
            guard(model, part[0], changed, mean)
        share = mean * (len(part[1]) / len(targets))
        (share if rules.scaler is None else rules.scaler.scale(share)).backward()  # type: ignore[no-untyped-call]
        total = total + mean.detach() * len(part[1])
    _follow(model, optimizer, rules)
    return total


def mean_loss(model: nn.Module, loss: Loss, part: tuple[Tensor, ...], rules: Rules) -> Tensor:
    """Return the mean loss of a part of a batch (inputs, targets, indices) as the rules say."""
    return _mean_loss(model, loss, part, rules)[0]


def _mean_loss(model: nn.Module, loss: Loss, part: tuple[Tensor, ...], rules: Rules) -> tuple[Tensor, Tensor | None]:
    """Return the mean loss, and the inputs as an augmentation changed them; None where there is none."""
    inputs, targets, indices = part
    with torch.autocast(inputs.device.type, rules.autocast, enabled=rules.autocast is not None):
        if rules.augment is None:
            return loss(model(inputs), targets, indices), None
        assert isinstance(model, Estimator)
        changed, mixed = rules.augment(model.standardised(inputs))
        outputs = model.judged(changed)
        if mixed is None:
            return loss(outputs, targets, indices), changed
        others = targets[mixed.partners], indices[mixed.partners_on_cpu]
        own, other = (loss(outputs, *of) for of in ((targets, indices), others))
        return mixed.share * own + (1 - mixed.share) * other, changed


def _follow(model: nn.Module, optimizer: torch.optim.Optimizer, rules: Rules) -> None:
    """Clip the gradients and let the optimiser follow them."""
    if rules.scaler is not None:
        rules.scaler.unscale_(optimizer)
    if rules.clip_value is not None:
        nn.utils.clip_grad_value_(model.parameters(), rules.clip_value)
    if rules.clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), rules.clip_norm)
    if rules.scaler is None:
        optimizer.step()
    else:
        rules.scaler.step(optimizer)
        rules.scaler.update()


def number_of_parts(micro_batches: int, num: int) -> int:
    """Return in how many parts so many examples are worked through, none of a single one: batch norm cannot take it."""
    return min(micro_batches, max(1, num // 2))


def _parts(micro_batches: int, *batch: Tensor) -> list[tuple[Tensor, ...]]:
    """Return the batch in micro-batches."""
    number = number_of_parts(micro_batches, len(batch[0]))
    return [batch] if number == 1 else list(zip(*(t.tensor_split(number) for t in batch), strict=True))
