"""The training loop: epochs of mini-batches, validation after each, the best weights kept."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from search.train.dropout import Masks
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
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.batches, self.dataset, self._objective, self.plan = batches, dataset, objective, plan
        self._seed = seed
        self.rules = rules
        self._metrics = metrics_of(dataset.examples.task)
        self._base_rates = [group["lr"] for group in optimizer.param_groups]
        self._moving = [bool(group.get("momentum")) for group in optimizer.param_groups]
        self.steps_per_epoch = plan.steps_an_epoch(len(dataset.split.train))
        self.curve = schedule(Budget(steps=plan.epochs * self.steps_per_epoch, steps_per_epoch=self.steps_per_epoch))
        self.average = None if plan.ema is None else Average(model, plan.ema)
        self._cycles = {end: cycle for cycle, end in enumerate(self.curve.cycle_ends)}
        self._snapshots: dict[int, dict[str, Tensor]] = {}
        self.diary: Diary | None = None
        """What it is like from inside; None where nobody looks."""
        if plan.diagnostics:
            self.diary = Diary(
                model, optimizer, steps_per_epoch=self.steps_per_epoch, dataset=dataset, nothing_train=nothing_train
            )
        self.masks = Masks(model, seed)
        self.epoch = 0
        """How many were begun."""
        self.step = 0
        """Steps of the optimiser so far."""
        self._last = plan.refit_epochs or plan.epochs
        self._best: _Best | None = None
        self._stopped: str | None = None
        self._paused = False
        self._checkpoint: Path | None = None
        self._keep: KeepFn | None = None

    def fit(self, report: ReportFn, checkpoint: Path | None = None, keep: KeepFn | None = None) -> Fitted:
        """Train to the end of the plan, or until `report` or the patience says stop, and restore what the plan keeps.

        For `checkpoint` and `keep` see `begin`. Raises NonFiniteError.
        """
        self.begin(checkpoint, keep)
        while not self.ended:
            figures = self.run_epoch()
            self.told(*report(self.epoch, figures))
        return self.fitted()

    def begin(self, checkpoint: Path | None = None, keep: KeepFn | None = None) -> None:
        """Get ready for the first epoch.

        With `checkpoint`, go on from that file where it is whole, and leave it every so many epochs and when told to
        pause. `keep` is given a snapshot of each cycle of the schedule (Huang et al. 2017); those of epochs that are
        run again are given again.
        """
        self._checkpoint, self._keep = checkpoint, keep
        if checkpoint is not None:
            self._resume(checkpoint)
        if keep is None:
            self._cycles = {}

    @property
    def ended(self) -> bool:
        """Whether no epoch is left, or it was told to leave."""
        return self._stopped is not None or self.epoch >= self._last

    def run_epoch(self) -> dict[str, float]:
        """Train an epoch and validate; return its figures. Raises NonFiniteError."""
        return self.close_epoch(self._train_epoch(), self.validated())

    def open_epoch(self) -> Tensor:
        """Begin the next epoch; return the indices of its training examples in their order, int64 (M,)."""
        self.epoch += 1
        self.step = (self.epoch - 1) * self.steps_per_epoch
        steps.seed_everything(keyed_int(self._seed, "epoch", self.epoch))  # whatever user code draws
        self.masks.begin(self.epoch, self.steps_per_epoch)
        self.model.train()
        return steps.order_of(self.dataset, self.plan, self._seed, self.epoch)

    def close_epoch(self, loss: float, predictions: Array) -> dict[str, float]:
        """Return the epoch's figures, keeping what is best; `predictions` are those on the validation split.

        `loss` is the mean training loss. Raises NonFiniteError.
        """
        self._require_finite(loss, predictions)
        targets = self.dataset.examples.targets[self.dataset.split.validation]
        found = {f"val/{name}": metric(predictions, targets) for name, metric in self._metrics.items()}
        layers = {} if self.diary is None else self.diary.close_epoch(loss, found["val/loss"], predictions)
        figures = {"train/loss": loss, "train/lr": self._rate(), **found, **layers}
        self._keep_best(figures)
        self._hand_over_snapshots()
        return figures

    def told(self, verdict: Verdict, reason: str) -> None:
        """Take in what to do after an epoch, and leave a checkpoint where one is due."""
        self._stopped = reason if verdict is Verdict.STOP else self._out_of_patience()
        if self._stopped is None and verdict is Verdict.PAUSE and self.epoch < self._last:
            self._stopped, self._paused = reason, True
        # A run that was told to stop leaves no checkpoint to go on from.
        due = self._paused or (self._stopped is None and self.epoch % self.plan.checkpoint_every == 0)
        if self._checkpoint is not None and due:
            self._save(self._checkpoint)

    def fitted(self) -> Fitted:
        """Restore what the plan keeps; return how it ended."""
        assert self._best is not None
        self.model.load_state_dict(self._best.weights)
        began = time.perf_counter()
        predictions = self.predict(self.dataset.split.validation)
        return Fitted(
            best_step=self._best.step,
            steps=self.epoch,
            figures=self._best.figures,
            predictions=predictions,
            predicting=time.perf_counter() - began,
            stopped=self._stopped,
            paused=self._paused,
        )

    def predict(self, indices: Array) -> Array:
        """Return probabilities (M, C) or values (M,) of the examples, in evaluation mode."""
        return predict(self.model, self.batches, indices, self.dataset.examples.task, self._evaluated)

    @property
    def _evaluated(self) -> int:
        """How many examples are evaluated at once."""
        return max(1, EVALUATION_BATCH // self.plan.micro_batches)

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """Let the network have the weights that are judged: their moving average, where there is one."""
        with contextlib.nullcontext() if self.average is None else self.average.applied():
            yield

    def _train_epoch(self) -> float:
        """Run one epoch; return the mean training loss per example."""
        order = self.open_epoch()
        total: Tensor | float = 0.0
        for batch in self.batches(order, self.plan.step_size):
            total = total + self.train_step(batch)
            if self.average is not None:
                self.average.update()
            self.count_step()
        return float(total) / len(order)

    def some_steps(self) -> Iterator[None]:
        """Take the steps of an epoch one by one, for somebody who measures them and throws the training away."""
        order = self.open_epoch()
        for batch in self.batches(order, self.plan.step_size):
            self.train_step(batch)
            self.count_step()
            yield

    def train_step(self, batch: Batch) -> Tensor:
        """Take the next step with a batch; return its loss summed over the examples, a scalar without gradient."""
        self.follow_schedule()
        self.masks.step(self.step % self.steps_per_epoch)
        with contextlib.nullcontext() if self.diary is None else self.diary.looking(self.step):
            return steps.train_step(
                self.model,
                self.optimizer,
                self.loss,
                batch,
                micro_batches=self.plan.parts,
                rules=self.rules,
                guard=self.require_finite,
            )

    def count_step(self) -> None:
        """Take in that a step was taken, and the weights at the end of a cycle."""
        self.step += 1
        if (cycle := self._cycles.get(self.step)) is not None:
            self._snapshots[cycle] = copied(self._judged())

    def require_finite(self, model: nn.Module, inputs: Tensor, augmented: Tensor | None, loss: Tensor) -> None:
        """Raise NonFiniteError for a loss that is none, before its gradients spoil the weights."""
        # A GPU is waited for once a step: a later look would find weights that are spoiled, whatever the cause was.
        if loss.numel() == 1 and not math.isfinite(loss.detach()):
            at = self.step % self.steps_per_epoch + 1
            with torch.autocast(inputs.device.type, self.rules.autocast, enabled=self.rules.autocast is not None):
                where = first_non_finite(model, inputs, augmented)
            became = f"the training loss became {float(loss.detach())} in step {at} of epoch {self.epoch}"
            raise NonFiniteError(f"{became}: {where}")

    def follow_schedule(self) -> None:
        """Set the optimiser's rates, and momenta where they have a course, for the next step."""
        rate, momenta = self.curve.rates[self.step], self.curve.momenta
        for group, base, moving in zip(self.optimizer.param_groups, self._base_rates, self._moving, strict=True):
            group["lr"] = base * float(rate)
            if momenta is not None and moving:  # one that is off stays off: a step would be many times as long
                group["momentum"] = float(momenta[self.step])
            elif momenta is not None and "betas" in group:
                group["betas"] = (float(momenta[self.step]), *group["betas"][1:])

    @property
    def cycle_ends(self) -> Iterable[int]:
        """The numbers of steps after which a snapshot is taken."""
        return self._cycles

    def courses(self) -> tuple[Array, Array]:
        """Return learning rates and momenta (first betas; 0 without any) of the next epoch's steps, (steps,) both."""
        chosen = slice(self.step, self.step + self.steps_per_epoch)
        rates, momenta = self.curve.rates[chosen], self.curve.momenta
        group = self.optimizer.param_groups[0]
        own = group["betas"][0] if "betas" in group else group.get("momentum", 0.0)
        follows = momenta is not None and ("betas" in group or self._moving[0])
        return self._base_rates[0] * rates, momenta[chosen] if follows else np.full(len(rates), own)  # type: ignore[index]

    def _rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def validated(self) -> Array:
        """Return the predictions on the validation split, of the weights that are judged."""
        with self._averaged():
            return self.predict(self.dataset.split.validation)

    def _require_finite(self, loss: float, predictions: Array) -> None:
        if not math.isfinite(loss):
            raise NonFiniteError(f"the training loss became {loss} in epoch {self.epoch}")
        finite = np.isfinite(predictions).reshape(len(predictions), -1).all(axis=1)
        if not finite.all():  # looked into with the weights that gave them
            wrong = torch.as_tensor(self.dataset.split.validation[~finite])
            with self._averaged():
                self.model.eval()
                where = first_non_finite(self.model, next(self.batches(wrong, self._evaluated))[0], loss=False)
            raise NonFiniteError(f"predictions on validation are not finite after epoch {self.epoch}: {where}")

    def _keep_best(self, figures: dict[str, float]) -> None:
        if self.plan.keeps_last or self._best is None or self._better(figures, self._best.figures):
            self._best = _Best(self.epoch, dict(figures), copied(self._judged()))

    def _judged(self) -> Mapping[str, Tensor]:
        return self.model.state_dict() if self.average is None else self.average.weights

    def _hand_over_snapshots(self) -> None:
        """Give away those of this epoch's cycles; one whose predictions are not finite is of no use."""
        taken, self._snapshots = self._snapshots, {}
        if self._keep is None:
            return
        for cycle, weights in taken.items():
            with having(self.model, weights):
                predictions = self.predict(self.dataset.split.validation)
            if np.isfinite(predictions).all():
                self._keep(cycle, weights, predictions)

    def _better(self, new: Mapping[str, float], old: Mapping[str, float]) -> bool:
        """Compare by the objective; where it is equal (accuracies often are) by the loss."""
        key = f"val/{self._objective.name}"
        if new[key] == old[key]:
            return new["val/loss"] < old["val/loss"]
        return self._objective.better(new[key], old[key])

    def _out_of_patience(self) -> str | None:
        assert self._best is not None
        patience = self.plan.patience
        if patience is None or self.epoch - self._best.step < patience:
            return None
        return f"no better figure for {patience} epochs"

    def _save(self, path: Path) -> None:
        assert self._best is not None
        save_state(
            path,
            {
                "epoch": self.epoch,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "best": {"step": self._best.step, "figures": self._best.figures, "weights": self._best.weights},
                "average": None if self.average is None else self.average.state_dict(),
                "scaler": None if self.rules.scaler is None else self.rules.scaler.state_dict(),
                "diary": None if self.diary is None else self.diary.state_dict(),
            },
        )

    def _resume(self, path: Path) -> None:
        state = load_state(path)
        if state is None or state["epoch"] > self.plan.epochs:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = state["epoch"]
        self._best = _Best(**state["best"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.rules.scaler is not None:
            self.rules.scaler.load_state_dict(state["scaler"])
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
