"""The training loop: epochs of mini-batches, validation after each, the best weights kept."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from search.keyed import keyed_int
from search.records import Verdict
from search.train import steps
from search.train.average import Average, copied, having
from search.train.batches import Batch, Batches
from search.train.checkpoint import load_state, save_state
from search.train.data.arrays import Array, Dataset
from search.train.diagnostics.diary import Diary
from search.train.diagnostics.non_finite import first_non_finite
from search.train.losses import Loss, predictions_of
from search.train.metrics import Metric, metrics_of
from search.train.plan import Plan
from search.train.schedules import Budget, Curve
from search.train.steps import NonFiniteError, Rules

EVALUATION_BATCH = 1024

ReportFn = Callable[[int, Mapping[str, float]], tuple[Verdict, str]]
"""(epoch from 1, figures) -> what to do, and why."""

KeepFn = Callable[[int, Mapping[str, Tensor], Array], None]
"""(cycle from 0, weights at its end, predictions on the validation split): is called at the end of the epoch."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """How a run ended; the model then holds the weights kept. `predictions` are those on the validation split.

    `predicting` is how many seconds these took. `stopped` says why it did not come to the end of its plan; `paused`: it
    left a checkpoint to go on from.
    """

    best_step: int
    steps: int
    figures: Mapping[str, float]
    predictions: Array
    predicting: float
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
        schedule: Callable[[Budget], Curve],
        loss: Loss,
        batches: Batches,
        dataset: Dataset,
        objective: Metric,
        plan: Plan,
        seed: int,
        rules: Rules = steps.PLAIN,
        *,
        nothing_train: float | None = None,
    ) -> None:
        """`nothing_train` is the training loss of a model that knows nothing of the inputs, where that is known.

        Raises UsageError for a schedule that has no curve over this training.
        """
        self._model, self._optimizer, self._loss = model, optimizer, loss
        self._batches, self._dataset, self._objective, self._plan = batches, dataset, objective, plan
        self._seed = seed
        self._rules = dataclasses.replace(rules, guard=self._guard)
        self._metrics = metrics_of(dataset.examples.task)
        self._base_rates = [group["lr"] for group in optimizer.param_groups]
        self._moving = [bool(group.get("momentum")) for group in optimizer.param_groups]
        self._steps_per_epoch = plan.steps_an_epoch(len(dataset.split.train))
        self._curve = schedule(Budget(steps=plan.epochs * self._steps_per_epoch, steps_per_epoch=self._steps_per_epoch))
        self._average = None if plan.ema is None else Average(model, plan.ema)
        self._cycles = {end: cycle for cycle, end in enumerate(self._curve.cycle_ends)}
        self._snapshots: dict[int, dict[str, Tensor]] = {}
        self.diary: Diary | None = None
        """What it is like from inside; None where nobody looks."""
        if plan.diagnostics:
            self.diary = Diary(
                model, optimizer, steps_per_epoch=self._steps_per_epoch, dataset=dataset, nothing_train=nothing_train
            )
        self._epoch = 0
        self._step = 0
        self._best: _Best | None = None

    def fit(self, report: ReportFn, checkpoint: Path | None = None, keep: KeepFn | None = None) -> Fitted:
        """Train to the end of the plan, or until `report` or the patience says stop, and restore what the plan keeps.

        With `checkpoint`, goes on from that file where it is whole, and leaves it every so many epochs and when
        told to pause. `keep` is given a snapshot of each cycle of the schedule (Huang et al. 2017); those of epochs
        that are run again are given again. Raises NonFiniteError.
        """
        if checkpoint is not None:
            self._resume(checkpoint)
        if keep is None:
            self._cycles = {}
        stopped: str | None = None
        paused = False
        last = self._plan.refit_epochs or self._plan.epochs
        while self._epoch < last and stopped is None:
            self._epoch += 1
            figures = self._run_epoch()
            self._keep_best(figures)
            self._hand_over_snapshots(keep)
            verdict, reason = report(self._epoch, figures)
            stopped = reason if verdict is Verdict.STOP else self._out_of_patience()
            if stopped is None and verdict is Verdict.PAUSE and self._epoch < last:
                stopped, paused = reason, True
            # A run that was told to stop leaves no checkpoint to go on from.
            due = paused or (stopped is None and self._epoch % self._plan.checkpoint_every == 0)
            if checkpoint is not None and due:
                self._save(checkpoint)
        assert self._best is not None
        self._model.load_state_dict(self._best.weights)
        began = time.perf_counter()
        predictions = self.predict(self._dataset.split.validation)
        return Fitted(
            best_step=self._best.step,
            steps=self._epoch,
            figures=self._best.figures,
            predictions=predictions,
            predicting=time.perf_counter() - began,
            stopped=stopped,
            paused=paused,
        )

    def predict(self, indices: Array) -> Array:
        """Return probabilities (M, C) or values (M,) of the examples, in evaluation mode."""
        return predict(self._model, self._batches, indices, self._dataset.examples.task, self._evaluated)

    @property
    def _evaluated(self) -> int:
        """How many examples are evaluated at once."""
        return max(1, EVALUATION_BATCH // self._plan.micro_batches)

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """Let the network have the weights that are judged: their moving average, where there is one."""
        with contextlib.nullcontext() if self._average is None else self._average.applied():
            yield

    def _run_epoch(self) -> dict[str, float]:
        """Train and evaluate; return the epoch's figures."""
        loss = self._train_epoch()
        predictions = self._validated()
        targets = self._dataset.examples.targets[self._dataset.split.validation]
        figures = {f"val/{name}": metric(predictions, targets) for name, metric in self._metrics.items()}
        layers = {} if self.diary is None else self.diary.close_epoch(loss, figures["val/loss"], predictions)
        return {"train/loss": loss, "train/lr": self._rate(), **figures, **layers}

    def _train_epoch(self) -> float:
        """Run one epoch; return the mean training loss per example."""
        steps.seed_everything(keyed_int(self._seed, "epoch", self._epoch))  # dropout and whatever user code draws
        order = steps.order_of(self._dataset, self._plan, self._seed, self._epoch)
        self._model.train()
        total: Tensor | float = 0.0
        self._step = (self._epoch - 1) * self._steps_per_epoch
        for batch in self._batches(order, self._plan.step_size):
            self._follow_schedule()
            with contextlib.nullcontext() if self.diary is None else self.diary.looking(self._step):
                total = total + self._train_step(batch)
            if self._average is not None:
                self._average.update()
            self._step += 1
            if (cycle := self._cycles.get(self._step)) is not None:
                self._snapshots[cycle] = copied(self._judged())
        mean = float(total) / len(order)
        if not math.isfinite(mean):
            raise NonFiniteError(f"the training loss became {mean} in epoch {self._epoch}")
        return mean

    def _train_step(self, batch: Batch) -> Tensor:
        return steps.train_step(
            self._model,
            self._optimizer,
            self._loss,
            batch,
            micro_batches=self._plan.parts,
            rules=self._rules,
        )

    def _guard(self, model: nn.Module, inputs: Tensor, augmented: Tensor | None, loss: Tensor) -> None:
        """Raise NonFiniteError for a loss that is none, before its gradients spoil the weights."""
        # A GPU is waited for once a step: a later look would find weights that are spoiled, whatever the cause was.
        if loss.numel() == 1 and not math.isfinite(loss.detach()):
            at = self._step % self._steps_per_epoch + 1
            with torch.autocast(inputs.device.type, self._rules.autocast, enabled=self._rules.autocast is not None):
                where = first_non_finite(model, inputs, augmented)
            became = f"the training loss became {float(loss.detach())} in step {at} of epoch {self._epoch}"
            raise NonFiniteError(f"{became}: {where}")

    def _follow_schedule(self) -> None:
        rate, momenta = self._curve.rates[self._step], self._curve.momenta
        for group, base, moving in zip(self._optimizer.param_groups, self._base_rates, self._moving, strict=True):
            group["lr"] = base * float(rate)
            if momenta is not None and moving:  # one that is off stays off: a step would be many times as long
                group["momentum"] = float(momenta[self._step])
            elif momenta is not None and "betas" in group:
                group["betas"] = (float(momenta[self._step]), *group["betas"][1:])

    def _rate(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"])

    def _validated(self) -> Array:
        """Return the predictions on the validation split; raise NonFiniteError where they are none."""
        with self._averaged():
            predictions = self.predict(self._dataset.split.validation)
            finite = np.isfinite(predictions).reshape(len(predictions), -1).all(axis=1)
            if not finite.all():  # looked into with the weights that gave them
                wrong = torch.as_tensor(self._dataset.split.validation[~finite])
                where = first_non_finite(self._model, next(self._batches(wrong, self._evaluated))[0], loss=False)
                raise NonFiniteError(f"predictions on validation are not finite after epoch {self._epoch}: {where}")
        return predictions

    def _keep_best(self, figures: dict[str, float]) -> None:
        if self._plan.keeps_last or self._best is None or self._better(figures, self._best.figures):
            self._best = _Best(self._epoch, dict(figures), copied(self._judged()))

    def _judged(self) -> Mapping[str, Tensor]:
        return self._model.state_dict() if self._average is None else self._average.weights

    def _hand_over_snapshots(self, keep: KeepFn | None) -> None:
        """Give away those of this epoch's cycles; one whose predictions are not finite is of no use."""
        taken, self._snapshots = self._snapshots, {}
        if keep is None:
            return
        for cycle, weights in taken.items():
            with having(self._model, weights):
                predictions = self.predict(self._dataset.split.validation)
            if np.isfinite(predictions).all():
                keep(cycle, weights, predictions)

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
                "average": None if self._average is None else self._average.state_dict(),
                "scaler": None if self._rules.scaler is None else self._rules.scaler.state_dict(),
                "diary": None if self.diary is None else self.diary.state_dict(),
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
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        if self._rules.scaler is not None:
            self._rules.scaler.load_state_dict(state["scaler"])
        if self.diary is not None and state.get("diary") is not None:
            self.diary.load_state_dict(state["diary"])


def predict(model: nn.Module, batches: Batches, indices: Array, task: str, batch_size: int = EVALUATION_BATCH) -> Array:
    """Return probabilities (M, C) or values (M,) of the examples, float32, in evaluation mode."""
    model.eval()
    parts: list[np.ndarray[Any, Any]] = []
    with torch.inference_mode():
        for inputs, _, _ in batches(torch.as_tensor(indices), batch_size):
            parts.append(predictions_of(model(inputs), task))
    return np.concatenate(parts)
