"""Everything that one training is made of, from a trial's configuration and the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from search.config.build import factory
from search.keyed import keyed_int
from search.train.batches import Batches, ResidentBatches
from search.train.data.arrays import Dataset
from search.train.estimator import Estimator, build
from search.train.loop import Plan, Training
from search.train.losses import Loss, loss_of
from search.train.metrics import Metric, objective
from search.train.steps import seed_everything


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One training before its first step: the network with its initial weights, and what is done to it."""

    model: Estimator
    optimizer: torch.optim.Optimizer
    schedule: Callable[[float], float]
    loss: Loss
    batches: Batches
    dataset: Dataset
    metric: Metric
    plan: Plan
    seed: int
    standard_loss: bool
    """Whether the loss is the task's own: cross-entropy, or squared error over the target's variance."""

    def training(self) -> Training:
        """Return the run of it; everything random in it is keyed by the seed."""
        return Training(
            model=self.model,
            optimizer=self.optimizer,
            schedule=self.schedule,
            loss=self.loss,
            batches=self.batches,
            dataset=self.dataset,
            objective=self.metric,
            plan=self.plan,
            seed=self.seed,
        )


def setup_of(
    config: Mapping[str, Any],
    dataset: Dataset,
    device: torch.device,
    *,
    seed: int,
    batches: Batches | None = None,
    micro_batches: int = 1,
) -> Setup:
    """Return the setup that a trial's configuration describes, its weights drawn by `seed`.

    `config` has the nodes model, optimizer, schedule, loss, trainer and metric, resolved. Without `batches` all data
    is put on the device. Raises UsageError where a part cannot be built.
    """
    metric = objective(config["metric"]["name"], config["metric"]["mode"], dataset.examples.task)
    seed_everything(keyed_int(seed, "init"))
    model = build(config["model"], dataset, prior=config.get("loss") is None).to(device)
    return Setup(
        model=model,
        optimizer=factory(config["optimizer"], "optimizer")(model.parameters()),
        schedule=factory(config["schedule"], "schedule"),
        loss=loss_of(config.get("loss"), dataset.examples.task, float(model.target_std), device),
        batches=batches or ResidentBatches(dataset.examples, device),
        dataset=dataset,
        metric=metric,
        plan=_plan(config["trainer"], micro_batches),
        seed=seed,
        standard_loss=config.get("loss") is None,
    )


def _plan(trainer: Mapping[str, Any], micro_batches: int) -> Plan:
    settings = {key: trainer[key] for key in ("epochs", "batch_size", "patience", "checkpoint_every")}
    return Plan(**settings, micro_batches=micro_batches)
