"""Short trainings that something ails, planted there, and healthy ones, for what is said of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from search.records import Verdict
from search.train.data import digits
from search.train.data.arrays import Dataset, Examples
from search.train.data.split import divide
from search.train.diagnostics.diagnosis import Diagnosis
from search.train.models.mlp import MLP
from search.train.setup import setup_of
from search.train.steps import NonFiniteError

CPU = torch.device("cpu")
Settings = Mapping[str, Any]


class Deep(nn.Module):
    """Many layers; their first weights are He's (2015) times `gain`, or PyTorch's own where there is none."""

    def __init__(
        self, in_shape: tuple[int, ...], num_outputs: int, depth: int, gain: float | None, activation: str = "ReLU"
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        size = math.prod(in_shape)
        for _ in range(depth):
            linear = nn.Linear(size, 64)
            if gain is not None:
                nn.init.kaiming_normal_(linear.weight)
                linear.weight.data *= gain
                nn.init.zeros_(linear.bias)
            layers += [linear, getattr(nn, activation)()]
            size = 64
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(size, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(inputs))
        return outputs


class Dead(MLP):
    """An MLP whose second layer is silenced by its biases."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__(in_shape, num_outputs, width=64, depth=2, dropout=0.0)
        linear = self.body[4]
        assert isinstance(linear, nn.Linear)
        nn.init.constant_(linear.bias, -20.0)


class Recurrent(nn.Module):
    """A recurrent network over a series; with `gain`, its recurrent weights are so many times a rotation."""

    def __init__(
        self, in_shape: tuple[int, ...], num_outputs: int, kind: str, gain: float | None = None, **settings: Any
    ) -> None:
        super().__init__()
        self.recurrent = getattr(nn, kind)(in_shape[0], 32, batch_first=True, **settings)
        if gain is not None:
            nn.init.orthogonal_(self.recurrent.weight_hh_l0, gain)
        self.head = nn.Linear(32, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.recurrent(inputs.transpose(1, 2))[0].mean(dim=1))
        return outputs


@cache
def examples_of(name: str) -> Examples:
    if name == "digits":
        return digits.load(name)
    if name == "rings":
        return _rings()
    import sklearn.datasets

    bunch = getattr(sklearn.datasets, f"load_{name}")()
    inputs = bunch.data.astype(np.float32)
    if name == "diabetes":
        return Examples(name=name, inputs=inputs, targets=bunch.target.astype(np.float32), task="regression")
    classes = tuple(map(str, bunch.target_names))
    return Examples(
        name=name, inputs=inputs, targets=bunch.target.astype(np.int64), task="classification", classes=classes
    )


def _rings() -> Examples:
    """Return series (N, 1, 40) of a frequency each, the class, with a phase and noise of their own."""
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 4, 1500)
    phase, noise = generator.uniform(0, 6, (1500, 1)), generator.normal(size=(1500, 40))
    series = np.sin(np.arange(40) * 0.15 * (targets[:, None] + 1) + phase) + 0.2 * noise
    return Examples(
        name="rings",
        inputs=series[:, None].astype(np.float32),
        targets=targets,
        task="classification",
        classes=("a", "b", "c", "d"),
    )


def network(name: str, **settings: Any) -> Settings:
    """Return the node of a network of this module's, or of ours by its class."""
    ours = {"MLP": "mlp", "CNN": "cnn", "Linear": "linear"}
    place = f"search.train.models.{ours[name]}" if name in ours else __name__
    return {"_target_": f"{place}.{name}", **settings}


def adamw(rate: float, decay: float = 1e-2) -> Settings:
    return {"_target_": "torch.optim.AdamW", "lr": rate, "weight_decay": decay}


def sgd(rate: float, momentum: float = 0.9, decay: float = 1e-4) -> Settings:
    return {"_target_": "torch.optim.SGD", "lr": rate, "momentum": momentum, "nesterov": True, "weight_decay": decay}


COSINE = {"_target_": "search.train.schedules.cosine", "unit": "budget", "warmup": 0.05, "final": 0.0}
CONSTANT = {"_target_": "search.train.schedules.constant", "unit": "budget", "warmup": 0.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A training: on what, of what, how long; stopped early where `stop` says after how many epochs."""

    model: Settings
    optimizer: Settings = dataclasses.field(default_factory=lambda: adamw(1e-3))
    data: str = "digits"
    schedule: Settings = dataclasses.field(default_factory=lambda: COSINE)
    epochs: int = 12
    batch_size: int = 32
    noise: float = 0.0
    """Share of wrong labels."""
    examples: int | None = None
    stop: int | None = None


def ran(case: Case, seed: int) -> tuple[tuple[Diagnosis, ...], float]:
    """Return what is said of a case, and the last score on validation, accuracy or R²."""
    examples = examples_of(case.data)
    if case.noise:
        generator = np.random.default_rng(seed)
        targets = examples.targets.copy()
        wrong = generator.random(len(targets)) < case.noise
        targets[wrong] = generator.integers(0, examples.num_outputs, int(wrong.sum()))
        examples = dataclasses.replace(examples, targets=targets)
    stratify = examples.task == "classification"
    split = divide(
        examples, {"fractions": [0.6, 0.2, 0.2], "stratify": stratify, "seed": seed, "group": None, "time": None}
    )
    trainer = {"epochs": case.epochs, "batch_size": case.batch_size, "patience": None, "checkpoint_every": 1000}
    config = {
        "model": case.model,
        "optimizer": case.optimizer,
        "schedule": case.schedule,
        "metric": {"name": None, "mode": None},
        "trainer": {**trainer, "examples": case.examples},
    }
    training = setup_of(config, Dataset(examples=examples, split=split), CPU, seed=seed).training()
    scores = [0.0]

    def report(epoch: int, figures: Mapping[str, float]) -> tuple[Verdict, str]:
        scores.append(figures["val/accuracy" if "val/accuracy" in figures else "val/r2"])
        return (Verdict.STOP if epoch == case.stop else Verdict.GO_ON), "told to"

    assert training.diary is not None
    try:
        training.fit(report)
    except NonFiniteError as error:
        return training.diary.diagnoses(ended=False, failure=str(error)), scores[-1]
    return training.diary.diagnoses(ended=case.stop is None), scores[-1]


MLP_NODE = network("MLP", width=128, depth=2, dropout=0.0)
FAULTS: dict[str, tuple[str, Case]] = {
    "rate x100": ("learning rate too high", Case(model=MLP_NODE, optimizer=adamw(0.1))),
    "rate x100, sgd": ("learning rate too high", Case(model=MLP_NODE, optimizer=sgd(10.0))),
    "rate x100, tanh": (
        "learning rate too high",
        Case(model=network("Deep", depth=3, gain=None, activation="Tanh"), optimizer=adamw(0.1)),
    ),
    "rate x100, regression": ("learning rate too high", Case(model=MLP_NODE, optimizer=adamw(0.1), data="diabetes")),
    "rate /100": ("learning rate too low", Case(model=MLP_NODE, optimizer=adamw(1e-5))),
    "rate /100, sgd": ("learning rate too low", Case(model=MLP_NODE, optimizer=sgd(1e-3))),
    "rate /100, cnn": (
        "learning rate too low",
        Case(model=network("CNN", channels=8, blocks=2, kernel=3, dropout=0.1), optimizer=adamw(1e-5), epochs=4),
    ),
    "dead": ("dead ReLU", Case(model=network("Dead"), epochs=8)),
    "exploding": (
        "exploding gradients",
        Case(model=network("Recurrent", kind="RNN", gain=3.0), data="rings", epochs=4, batch_size=64),
    ),
    "exploding, relu": (
        "exploding gradients",
        Case(model=network("Recurrent", kind="RNN", gain=2.0, nonlinearity="relu"), data="rings", epochs=4),
    ),
    "not normalised, grows": ("activations not normalised", Case(model=network("Deep", depth=8, gain=2.0), epochs=6)),
    "not normalised, shrinks": ("activations not normalised", Case(model=network("Deep", depth=8, gain=0.4), epochs=6)),
    "not normalised, default": (
        "activations not normalised",
        Case(model=network("Deep", depth=10, gain=None), epochs=6),
    ),
    "vanishing": (
        "vanishing gradients",
        Case(model=network("Deep", depth=8, gain=None, activation="Sigmoid"), epochs=6),
    ),
    "overfits": (
        "overfits",
        Case(
            model=network("MLP", width=256, depth=2, dropout=0.0),
            optimizer=adamw(3e-3),
            noise=0.3,
            examples=300,
            epochs=40,
        ),
    ),
    "overfits, regression": (
        "overfits",
        Case(model=network("MLP", width=256, depth=2, dropout=0.0), optimizer=adamw(3e-3), data="diabetes", epochs=80),
    ),
    "underfits": ("underfits", Case(model=network("MLP", width=1, depth=1, dropout=0.0))),
    "decay": ("too much regularisation", Case(model=MLP_NODE, optimizer=sgd(0.1, decay=0.3))),
}
"""What is to be said of each case."""


def _mlp(generator: np.random.Generator) -> Settings:
    width, depth = int(generator.choice([64, 128, 256])), int(generator.integers(1, 4))
    return network("MLP", width=width, depth=depth, dropout=float(generator.uniform(0, 0.5)))


def _any_adamw(generator: np.random.Generator) -> Settings:
    rate, decay = (float(np.exp(generator.uniform(*np.log(span)))) for span in ((3e-4, 1e-2), (1e-4, 1e-1)))
    return adamw(rate, decay)


def _any_sgd(generator: np.random.Generator) -> Settings:
    rate = float(np.exp(generator.uniform(*np.log((1e-2, 0.3)))))
    return sgd(rate, momentum=float(generator.uniform(0.5, 0.95)))


def _schedule(generator: np.random.Generator) -> Settings:
    return COSINE if generator.random() < 0.5 else CONSTANT


Draw = Callable[[np.random.Generator], Case]
_SMALL_CNN = network("CNN", channels=8, blocks=2, kernel=3, dropout=0.1)
HEALTHY: dict[str, tuple[float, Draw]] = {
    "digits mlp": (0.9, lambda g: Case(model=_mlp(g), optimizer=_any_adamw(g), schedule=_schedule(g), epochs=20)),
    "digits sgd": (0.9, lambda g: Case(model=_mlp(g), optimizer=_any_sgd(g), schedule=_schedule(g), epochs=20)),
    "digits linear": (0.85, lambda g: Case(model=network("Linear"), optimizer=_any_adamw(g), epochs=20)),
    "digits cnn": (0.8, lambda g: Case(model=_SMALL_CNN, optimizer=adamw(1e-2), epochs=6)),
    "digits, stopped": (0.0, lambda g: Case(model=_mlp(g), optimizer=_any_adamw(g), stop=int(g.integers(1, 6)))),
    "deep": (0.9, lambda g: Case(model=network("Deep", depth=8, gain=1.0))),
    "iris": (0.8, lambda g: Case(model=_mlp(g), optimizer=_any_adamw(g), data="iris", epochs=80)),
    "wine": (0.85, lambda g: Case(model=_mlp(g), optimizer=_any_adamw(g), data="wine", epochs=80)),
    "breast cancer": (0.9, lambda g: Case(model=_mlp(g), optimizer=_any_adamw(g), data="breast_cancer", epochs=27)),
    "diabetes": (0.42, lambda g: Case(model=_mlp(g), optimizer=_any_adamw(g), data="diabetes", epochs=27)),
    "diabetes linear": (
        0.3,
        lambda g: Case(model=network("Linear"), optimizer=adamw(1e-2), data="diabetes", epochs=27),
    ),
    "gru": (
        0.6,
        lambda g: Case(
            model=network("Recurrent", kind="GRU"), optimizer=adamw(1e-2), data="rings", epochs=6, batch_size=64
        ),
    ),
}
"""Trainings as the search draws them, and the score from which one of them has gone well."""
