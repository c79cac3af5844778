"""The training loop: epochs of mini-batches, validation after each, the best weights kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from search.keyed import keyed_int
from search.records import Verdict
from search.train import steps
from search.train.batches import Batches
from search.train.checkpoint import load_state, save_state
from search.train.data.arrays import Array, Dataset
from search.train.losses import Loss, predictions_of
from search.train.metrics import Metric, metrics_of

EVALUATION_BATCH = 1024

ReportFn = Callable[[int, Mapping[str, float]], tuple[Verdict, str]]
"""(epoch from 1, figures) -> what to do, and why."""


class NonFiniteError(Exception):
    """A loss or a prediction became NaN or infinite."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how to train."""

    epochs: int
    batch_size: int
    patience: int | None
    checkpoint_every: int
    micro_batches: int = 1


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """How a run ended; the model then holds its best weights. `predictions` are those on the validation split.

    `stopped` says why it did not come to the end of its plan; `paused`: it left a checkpoint to go on from.
    """

    best_step: int
    steps: int
    figures: Mapping[str, float]
    predictions: Array
    stopped: str | None
    paused: bool = False


@dataclass
class _Best:
    step: int
    figures: dict[str, float]
    weights: dict[str, Tensor]


class Training:
    """One run over one data set. Everything random in epoch e is keyed by (seed, e): a resumed run is the same run."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Callable[[float], float],
        loss: Loss,
        batches: Batches,
        dataset: Dataset,
        objective: Metric,
        plan: Plan,
        seed: int,
    ) -> None:
        self._model, self._optimizer, self._schedule, self._loss = model, optimizer, schedule, loss
        self._batches, self._dataset, self._objective, self._plan = batches, dataset, objective, plan
        self._seed = seed
        self._metrics = metrics_of(dataset.examples.task)
        self._base_rates = [group["lr"] for group in optimizer.param_groups]
        self._epoch = 0
        self._best: _Best | None = None

    def fit(self, report: ReportFn, checkpoint: Path | None = None) -> Fitted:
        """Train to the end of the plan, or until `report` or the patience says stop, and restore the best weights.

        With `checkpoint`, goes on from that file where it is whole, and leaves it when told to pause (not at the end
        of the plan). Raises NonFiniteError.
        """
        if checkpoint is not None:
            self._resume(checkpoint)
        stopped: str | None = None
        paused = False
        while self._epoch < self._plan.epochs and stopped is None:
            self._epoch += 1
            figures = {"train/loss": self._train_epoch(), **self._validate()}
            self._keep_best(figures)
            verdict, reason = report(self._epoch, figures)
            stopped = reason if verdict is Verdict.STOP else self._out_of_patience()
            if stopped is None and verdict is Verdict.PAUSE and self._epoch < self._plan.epochs:
                stopped, paused = reason, True
            # A run that was told to stop leaves no checkpoint to go on from.
            due = paused or (stopped is None and self._epoch % self._plan.checkpoint_every == 0)
            if checkpoint is not None and due:
                self._save(checkpoint)
        assert self._best is not None
        self._model.load_state_dict(self._best.weights)
        return Fitted(
            best_step=self._best.step,
            steps=self._epoch,
            figures=self._best.figures,
            predictions=self.predict(self._dataset.split.validation),
            stopped=stopped,
            paused=paused,
        )

    def predict(self, indices: Array) -> Array:
        """Return probabilities (M, C) or values (M,) of the examples, in evaluation mode."""
        batch_size = max(1, EVALUATION_BATCH // self._plan.micro_batches)
        return predict(self._model, self._batches, indices, self._dataset.examples.task, batch_size)

    def _train_epoch(self) -> float:
        """Run one epoch; return the mean training loss per example."""
        steps.seed_everything(keyed_int(self._seed, "epoch", self._epoch))  # dropout and whatever user code draws
        size = self._plan.batch_size
        order = steps.epoch_order(self._dataset.split.train, self._seed, self._epoch, size)
        num_batches = math.ceil(len(order) / size)
        self._model.train()
        total: Tensor | float = 0.0
        for i, batch in enumerate(self._batches(order, size)):
            self._set_rate((self._epoch - 1 + (i + 0.5) / num_batches) / self._plan.epochs)
            total = total + steps.train_step(
                self._model,
                self._optimizer,
                self._loss,
                batch,
                micro_batches=self._plan.micro_batches,
            )
        mean = float(total) / len(order)
        if not math.isfinite(mean):
            raise NonFiniteError(f"the training loss became {mean} in epoch {self._epoch}")
        return mean

    def _set_rate(self, position: float) -> None:
        factor = self._schedule(position)
        for group, rate in zip(self._optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * factor

    def _validate(self) -> dict[str, float]:
        validation = self._dataset.split.validation
        predictions = self.predict(validation)
        if not np.isfinite(predictions).all():
            raise NonFiniteError(f"predictions on the validation split are not finite after epoch {self._epoch}")
        targets = self._dataset.examples.targets[validation]
        return {f"val/{name}": metric(predictions, targets) for name, metric in self._metrics.items()}

    def _keep_best(self, figures: dict[str, float]) -> None:
        if self._best is None or self._better(figures, self._best.figures):
            weights = {key: value.detach().clone() for key, value in self._model.state_dict().items()}
            self._best = _Best(self._epoch, dict(figures), weights)

    def _better(self, new: Mapping[str, float], old: Mapping[str, float]) -> bool:
        """Compare by the objective; where it is equal (accuracies often are) by the loss."""
        key = f"val/{self._objective.name}"
        if new[key] == old[key]:
            return new["val/loss"] < old["val/loss"]
        return self._objective.better(new[key], old[key])

    def _out_of_patience(self) -> str | None:
        assert self._best is not None
        patience = self._plan.patience
        if patience is None or self._epoch - self._best.step < patience:
            return None
        return f"no better figure for {patience} epochs"

    def _save(self, path: Path) -> None:
        assert self._best is not None
        save_state(
            path,
            {
                "epoch": self._epoch,
                "model": self._model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "best": {"step": self._best.step, "figures": self._best.figures, "weights": self._best.weights},
            },
        )

    def _resume(self, path: Path) -> None:
        state = load_state(path)
        if state is None or state["epoch"] > self._plan.epochs:
            return
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._epoch = state["epoch"]
        self._best = _Best(**state["best"])


def predict(model: nn.Module, batches: Batches, indices: Array, task: str, batch_size: int = EVALUATION_BATCH) -> Array:
    """Return probabilities (M, C) or values (M,) of the examples, float32, in evaluation mode."""
    model.eval()
    parts: list[np.ndarray[Any, Any]] = []
    with torch.inference_mode():
        for inputs, _, _ in batches(torch.as_tensor(indices), batch_size):
            parts.append(predictions_of(model(inputs), task))
    return np.concatenate(parts)
