"""Training losses: by task, and with a teacher (Hinton et al. 2015)."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from search.config.build import called_or_made
from search.train.data.arrays import Array

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(outputs (N, C) or (N, 1), targets (N,), indices of the examples (N,)) -> mean loss."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnLoss:
    """A loss of the user's own, of logits (N, C) and classes (N,), or of values and targets (N,) over `unit`.

    `form` says by what it was made.
    """

    criterion: Callable[[Tensor, Tensor], Tensor]
    unit: float | None
    form: Hashable

    def __call__(self, outputs: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        if self.unit is None:
            return self.criterion(outputs, targets)
        return self.criterion(outputs.squeeze(1) / self.unit, targets / self.unit)


def own_loss(node: Mapping[str, Any], task: str, target_std: float, device: torch.device) -> OwnLoss:
    """Return the loss that a configuration's `loss` node names.

    Its target is a function of (outputs, targets), or a class that makes one, e.g. torch.nn.CrossEntropyLoss: of
    logits (N, C) and class indices (N,), or of values (N,) and targets (N,), both over the training targets' standard
    deviation. Raises UsageError where it cannot be made.
    """
    criterion = called_or_made(node, "loss")
    if isinstance(criterion, nn.Module):
        criterion = criterion.to(device)
    unit = None if task == "classification" else target_std
    return OwnLoss(criterion=criterion, unit=unit, form=json.dumps(node, sort_keys=True, default=str))


@dataclass(frozen=True, kw_only=True, eq=False)
class HardLoss:
    """Cross-entropy of logits, or squared error in units of the target's variance.

    Classes alone know smoothing (Szegedy et al. 2016) and weights (C,) of each example's loss; these average 1 over the
    training examples, and a batch's loss is its sum over its size: whatever parts it is worked through in.
    """

    task: str
    target_std: float
    label_smoothing: float = 0.0
    class_weights: Tensor | None = None
    form: Hashable = "hard"

    def __call__(self, outputs: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        if self.task != "classification":
            return functional.mse_loss(outputs.squeeze(1), targets) / self.target_std**2
        if self.class_weights is None:
            return functional.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)
        total = functional.cross_entropy(
            outputs, targets, weight=self.class_weights, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return total / len(targets)


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
