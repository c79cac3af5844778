"""Training losses: by task, and with a teacher (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from search.config.build import factory
from search.train.data.arrays import Array

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(outputs (N, C) or (N, 1), targets (N,), indices of the examples (N,)) -> mean loss."""


def own_loss(node: Mapping[str, Any], task: str, target_std: float, device: torch.device) -> Loss:
    """Return the loss that a configuration's `loss` node names.

    Its target is a function of (outputs, targets), or a class that makes one, e.g. torch.nn.CrossEntropyLoss: of
    logits (N, C) and class indices (N,), or of values (N,) and targets (N,), both over the training targets' standard
    deviation. Raises UsageError where it cannot be made.
    """
    made = factory(node, "loss")
    called = getattr(made, "func", made)
    criterion = made() if isinstance(called, type) else made
    if isinstance(criterion, nn.Module):
        criterion = criterion.to(device)
    if task == "classification":
        return lambda outputs, targets, _: criterion(outputs, targets)
    return lambda outputs, targets, _: criterion(outputs.squeeze(1) / target_std, targets / target_std)


def hard_loss(
    task: str, target_std: float, *, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Loss:
    """Return cross-entropy of logits, or squared error in units of the target's variance.

    Classes alone know smoothing (Szegedy et al. 2016) and weights (C,) of each example's loss; these average 1 over the
    training examples, and a batch's loss is its sum over its size: whatever parts it is worked through in.
    """
    if task == "classification":
        if class_weights is None:
            return lambda outputs, targets, _: functional.cross_entropy(
                outputs, targets, label_smoothing=label_smoothing
            )
        return lambda outputs, targets, _: (
            functional.cross_entropy(
                outputs, targets, weight=class_weights, label_smoothing=label_smoothing, reduction="sum"
            )
            / len(targets)
        )
    return lambda outputs, targets, _: functional.mse_loss(outputs.squeeze(1), targets) / target_std**2


class DistillationLoss:
    """mix * soft + (1 - mix) * hard, the soft part scaled by the squared temperature as in section 2 of the paper.

    `teacher` holds the teacher's class probabilities (num_train, C) or values (num_train,) in the order of `train`,
    the indices of the training examples; those behind the first `labelled` have no labels, and no hard part.
    """

    def __init__(
        self,
        hard: Loss,
        teacher: Array,
        train: Array,
        *,
        temperature: float,
        mix: float,
        target_std: float,
        labelled: int | None = None,
    ) -> None:
        self._hard, self._temperature, self._mix, self._target_std = hard, temperature, mix, target_std
        self._labelled = len(train) if labelled is None else labelled
        self._all_labelled = self._labelled == len(train)
        rows = np.zeros(int(train.max()) + 1, dtype=np.int64)
        rows[train] = np.arange(len(train))
        self._rows = torch.from_numpy(rows)
        self._teacher = torch.from_numpy(np.ascontiguousarray(teacher, dtype=np.float32))

    def __call__(self, outputs: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        rows = self._rows.to(indices.device)[indices]
        soft = self._mix * self._soft(outputs, self._teacher.to(outputs.device)[rows.to(outputs.device)])
        if self._all_labelled:
            return soft + (1 - self._mix) * self._hard(outputs, targets, indices)
        there = torch.nonzero(rows < self._labelled).squeeze(1)
        if not len(there) or self._mix == 1:
            return soft
        here = there.to(outputs.device)
        hard = self._hard(outputs[here], targets[here], indices[there.to(indices.device)])
        return soft + (1 - self._mix) * hard * (len(there) / len(rows))

    def _soft(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        if teacher.ndim == 1:
            return functional.mse_loss(outputs.squeeze(1), teacher) / self._target_std**2
        soft = (teacher.clamp_min(1e-8).log() / self._temperature).softmax(dim=1)
        student = (outputs / self._temperature).log_softmax(dim=1)
        return functional.kl_div(student, soft, reduction="batchmean") * self._temperature**2


def predictions_of(outputs: Tensor, task: str) -> np.ndarray[Any, Any]:
    """Return probabilities (N, C) or values (N,), float32."""
    found = outputs.softmax(dim=1) if task == "classification" else outputs.squeeze(1)
    array: np.ndarray[Any, Any] = found.float().cpu().numpy()
    return array
