"""Everything that one training is made of, from a trial's configuration and the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from search.config.build import factory
from search.errors import UsageError
from search.keyed import keyed_int
from search.train.augment import Columns, augment_of
from search.train.batches import Batches, ResidentBatches
from search.train.data.arrays import Dataset
from search.train.data.subset import with_fewer
from search.train.data.table import encoded
from search.train.diagnostics.course import nothing_of
from search.train.estimator import Estimator, build
from search.train.loop import Training
from search.train.losses import HardLoss, Loss, own_loss
from search.train.metrics import Metric, objective
from search.train.plan import Plan
from search.train.pretrained import Started, in_groups, node_of, start_from, with_factors
from search.train.reduce import Selected
from search.train.schedules import Budget, Curve, curve_of
from search.train.steps import Rules, seed_everything

_TYPES = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One training before its first step: the network with its initial weights, and what is done to it."""

    model: Estimator
    optimizer: torch.optim.Optimizer
    schedule: Callable[[Budget], Curve]
    loss: Loss
    batches: Batches
    dataset: Dataset
    metric: Metric
    plan: Plan
    rules: Rules
    seed: int
    standard_loss: bool
    """Whether the loss is the task's own: plain cross-entropy, or squared error over the target's variance."""
    nothing_train: float | None = None
    """The loss of a model that knows nothing of the inputs; None for one of the user's, or of a teacher's."""
    started: Started | None = None
    """What was loaded, where the network starts from weights of an earlier training."""

    def training(self) -> Training:
        """Return the run of it; everything random in it is keyed by the seed."""
        if self.plan.compile:
            self.model.network.compile()
        return Training(
            model=self.model,
            optimizer=self.optimizer,
            schedule=self.schedule,
            loss=self.loss,
            batches=self.batches,
            dataset=self.dataset,
            objective=self.metric,
            plan=self.plan,
            rules=self.rules,
            seed=self.seed,
            nothing_train=self.nothing_train,
        )


def setup_of(
    config: Mapping[str, Any],
    dataset: Dataset,
    device: torch.device,
    *,
    seed: int,
    batches: Batches | None = None,
    micro_batches: int = 1,
    refit_epochs: int | None = None,
) -> Setup:
    """Return the setup that a trial's configuration describes, its weights drawn by `seed`.

    `config` has the nodes model, optimizer, schedule, trainer and metric, resolved, and those of loss, augment, inputs
    and pretrained that are set. Without `batches` all data is put on the device. Raises UsageError where a part cannot
    be built or does not fit the data.
    """
    trainer, examples = config["trainer"], dataset.examples
    metric = objective(config["metric"]["name"], config["metric"]["mode"], examples.task)
    _require_fitting(config, examples.task)
    if refit_epochs is None:
        dataset = with_fewer(dataset, trainer.get("examples"), seed)
    seed_everything(keyed_int(seed, "init"))
    even = "balanced" in (trainer.get("class_weights"), trainer.get("sampling"))
    prior = config.get("loss") is None and not even
    model = build(config["model"], dataset, inputs=config.get("inputs"), prior=prior).to(device)
    _give_shapes(model, dataset, device)
    start = node_of(config)
    started = None if start is None else start_from(model, start)
    return Setup(
        model=model,
        optimizer=_optimizer(config, model, started),
        schedule=partial(curve_of, config["schedule"]),
        loss=_loss(config, dataset, model, device),
        batches=batches or ResidentBatches(examples, device),
        dataset=dataset,
        metric=metric,
        plan=Plan.of(trainer, micro_batches=micro_batches, refit_epochs=refit_epochs),
        rules=_rules(config, dataset, model, device),
        seed=seed,
        nothing_train=nothing_of(dataset, "train", even=even) if config.get("loss") is None else None,
        started=started,
        standard_loss=not (config.get("loss") or trainer.get("label_smoothing") or even),
    )


def _give_shapes(model: Estimator, dataset: Dataset, device: torch.device) -> None:
    """Let lazy layers see two examples, after which their weights have shapes; others are left alone."""
    if not any(is_lazy(value) for value in (*model.parameters(), *model.buffers())):
        return
    inputs = torch.from_numpy(np.array(dataset.examples.inputs[dataset.split.train[:2]])).to(device)
    training = model.training
    with torch.no_grad():
        model.eval()(inputs)
    model.train(training)


def _require_fitting(config: Mapping[str, Any], task: str) -> None:
    """Raise UsageError for settings that need classes, or a loss that knows them, where there are none."""
    trainer = config["trainer"]
    for key, plain in (("class_weights", None), ("label_smoothing", 0.0), ("sampling", "shuffled")):
        value = trainer.get(key, plain)
        if value != plain and task != "classification":
            allowed = "null" if plain is None else plain
            raise UsageError(f"trainer.{key}={value}: is for classes, and this data is a {task}; must be {allowed}")
        value = value if value != plain else None
        if value and key != "sampling" and config.get("loss") is not None:
            raise UsageError(f"trainer.{key}={value}: cannot be combined with a loss of your own; set it there")


def _optimizer(config: Mapping[str, Any], model: Estimator, started: Started | None) -> torch.optim.Optimizer:
    groups = _groups(model, config["trainer"].get("decay", "all"))
    if started is not None:
        groups = in_groups(groups, model, started, config["pretrained"].get("lr_factor", 1.0))
    plain = len(groups) == 1 and set(groups[0]) == {"params"}  # an optimiser of the user's own may know no groups
    made = factory(config["optimizer"], "optimizer")(groups[0]["params"] if plain else groups)
    return with_factors(made)


def _groups(model: nn.Module, decay: str) -> list[dict[str, Any]]:
    """Return the parameters in groups: with `decay=weights` only matrices and filters decay, no biases and norms."""
    parameters = list(model.parameters())
    if decay == "all":
        return [{"params": parameters}]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _loss(config: Mapping[str, Any], dataset: Dataset, model: Estimator, device: torch.device) -> Loss:
    examples, trainer, target_std = dataset.examples, config["trainer"], float(model.target_std)
    if config.get("loss") is not None:
        return own_loss(config["loss"], examples.task, target_std, device)
    weights: Tensor | None = None
    if trainer.get("class_weights") == "balanced":
        counts = np.bincount(examples.targets[dataset.split.train], minlength=len(examples.classes))
        balanced = counts.sum() / (len(counts) * np.maximum(counts, 1))
        weights = torch.tensor(balanced, dtype=torch.float32, device=device)
    smoothing = trainer.get("label_smoothing", 0.0)
    return HardLoss(task=examples.task, target_std=target_std, label_smoothing=smoothing, class_weights=weights)


def _columns(dataset: Dataset, model: Estimator, device: torch.device) -> Columns:
    """Return what the features that the network is given are of in the table."""
    found = encoded(dataset.examples)
    if isinstance(model.reduction, Selected):
        found = found.only(model.reduction.features.cpu().numpy())
    of, words = (torch.as_tensor(values, device=device) for values in (found.of, found.words))
    return Columns(of=of, words=words, number=found.number)


def _rules(config: Mapping[str, Any], dataset: Dataset, model: Estimator, device: torch.device) -> Rules:
    trainer = config["trainer"]
    precision = trainer.get("precision", "float32")
    kind = dataset.examples.kind
    columns = _columns(dataset, model, device) if kind == "table" else None
    return Rules(
        augment=augment_of(config.get("augment"), kind, columns),
        clip_norm=trainer.get("clip_norm"),
        clip_value=trainer.get("clip_value"),
        autocast=_TYPES[precision],
        scaler=torch.amp.GradScaler(device.type) if precision == "fp16" else None,
    )
