"""Trainings twice: some alone, and the same ones in a stack, compared step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from search.train.batches import Batch, ResidentBatches
from search.train.data.arrays import Array, Dataset
from search.train.diagnostics.table import FIGURES
from search.train.fused import Stack, form_of, why_alone
from search.train.fused.stack import Epoch
from search.train.loop import Training
from search.train.losses import HardLoss
from search.train.setup import setup_of
from search.train.steps import NonFiniteError
from tests.kits import zoo

CPU = torch.device("cpu")
EXAMPLES = 100
MLP: dict[str, Any] = {"_target_": "search.train.models.mlp.MLP", "width": 12, "depth": 2, "dropout": 0.0}
BATCH_NORM: dict[str, Any] = {**MLP, "norm": "batch"}
CNN: dict[str, Any] = {
    "_target_": "search.train.models.cnn.CNN",
    "channels": 3,
    "blocks": 2,
    "kernel": 3,
    "dropout": 0.0,
}
RESNET: dict[str, Any] = {
    "_target_": "search.train.models.resnet.ResNet",
    "channels": 2,
    "stages": 2,
    "blocks": 1,
    "dropout": 0.0,
}
GRU: dict[str, Any] = {"_target_": "search.train.models.gru.GRU", "hidden": 4, "layers": 1, "dropout": 0.0}
TRANSFORMER: dict[str, Any] = {
    "_target_": "search.train.models.transformer.Transformer",
    "width": 8,
    "depth": 1,
    "heads": 2,
    "patch": 4,
    "dropout": 0.0,
}
SGD: dict[str, Any] = {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True}
ADAM: dict[str, Any] = {"_target_": "torch.optim.Adam", "lr": 0.01}
ADAMW: dict[str, Any] = {"_target_": "torch.optim.AdamW", "lr": 0.01, "weight_decay": 0.01}
RMSPROP: dict[str, Any] = {"_target_": "torch.optim.RMSprop", "lr": 0.003}

Nodes = Mapping[str, Any]
"""The nodes of a member's configuration, its `data` and its `seed`; `trainer` has what differs from the usual one."""


@cache
def data(name: str, double: bool) -> tuple[Dataset, ResidentBatches]:
    """Return a small data set of digits, series (digits row by row) or a table, and batches for such weights."""
    examples = zoo.digits(0, EXAMPLES) if name in ("digits", "series") else zoo.some_of(zoo.table(name, 0), 0, EXAMPLES)
    if name == "series":
        examples = dataclasses.replace(examples, inputs=examples.inputs[:, 0])
    batches = ResidentBatches(examples, CPU)
    if double and batches.targets.is_floating_point():
        batches.targets = batches.targets.double()
    return zoo.divided(examples, 0), batches


def member(double: bool = True, **nodes: Any) -> Training:
    """Return one training, in float64 where it is `double`; see `Nodes`."""
    dataset, batches = data(nodes.pop("data", "digits"), double)
    model, seed = nodes.pop("model", MLP), nodes.pop("seed", 0)
    usual = {"epochs": 4, "batch_size": 16, "patience": None, "checkpoint_every": 10}
    nodes = {"optimizer": ADAMW, **nodes, "trainer": {**usual, **nodes.get("trainer", {})}}
    micro_batches = nodes["trainer"].pop("micro_batches", 1)
    setup = setup_of(zoo.config(model, **nodes), dataset, CPU, seed=seed, batches=batches, micro_batches=micro_batches)
    if not double:
        return setup.training()
    setup.model.double()
    loss = setup.loss
    if isinstance(loss, HardLoss) and loss.class_weights is not None:
        loss = dataclasses.replace(loss, class_weights=loss.class_weights.double())
    return dataclasses.replace(setup, loss=loss).training()


class Recorded(Stack):
    """A stack that remembers the loss of each step."""

    def run_epoch(self) -> list[Epoch | NonFiniteError]:
        """Train each member for an epoch; `losses` are then those of its steps (steps, M)."""
        self.losses: list[Tensor] = []
        return super().run_epoch()

    def _step(self, *given: Any) -> Tensor:
        found = super()._step(*given)
        self.losses.append(found / given[2].number(given[0]))
        return found


@contextmanager
def exact_predictions() -> Iterator[None]:
    """Have predictions come out as exact as they are computed, instead of as float32."""

    def predictions(outputs: Tensor, task: str) -> Array:
        found: Array = (outputs.softmax(dim=1) if task == "classification" else outputs.squeeze(1)).detach().numpy()
        return found

    with (
        patch("search.train.loop.predictions_of", predictions),
        patch("search.train.fused.stack.predictions_of", predictions),
    ):
        yield


def stacked(trainings: Sequence[Training]) -> Recorded:
    """Return a stack of trainings that can be one."""
    assert [why_alone(training) for training in trainings] == [None] * len(trainings)
    assert len({form_of(training) for training in trainings}) == 1
    stack = Recorded(trainings)
    stack.prove()
    return stack


def epoch_alone(training: Training) -> tuple[Epoch, Array]:
    """Train for an epoch alone; return what `Stack.run_epoch` gives of it, and the losses of its steps."""
    losses: list[float] = []

    def recorded(batch: Batch) -> Tensor:
        found = Training.train_step(training, batch)
        losses.append(float(found) / len(batch[1]))
        return found

    with exact_predictions(), patch.object(training, "train_step", recorded):
        return (training._train_epoch(), training.validated()), np.array(losses)


def epoch_stacked(stack: Recorded) -> dict[Training, tuple[Epoch, Array]]:
    """Return the same of each member of a stack, in which none fails."""
    with exact_predictions():
        found = stack.run_epoch()
    losses = torch.stack(stack.losses).numpy()
    told: dict[Training, tuple[Epoch, Array]] = {}
    for row, (training, epoch) in enumerate(zip(stack.members, found, strict=True)):
        assert not isinstance(epoch, NonFiniteError), epoch
        told[training] = epoch, losses[:, row]
    return told


def apart(one: tuple[Epoch, Array], other: tuple[Epoch, Array]) -> float:
    """Return the largest relative difference of two epochs' losses, of all steps and their mean, and predictions."""
    (loss, predictions), steps = one
    (others_loss, others_predictions), others_steps = other
    pairs = ((loss, others_loss), (predictions, others_predictions), (steps, others_steps))
    return max(relative(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs)


def relative(one: Array, other: Array) -> float:
    """Return the largest difference of two arrays, over their size where that is no less than 1e-6."""
    assert one.shape == other.shape
    assert np.isfinite(one).all()
    return float((np.abs(one - other) / np.maximum(np.abs(one), 1e-6)).max(initial=0.0))


def state_of(training: Training) -> dict[str, Array]:
    """Return all that a training goes on from, by kind: weights and buffers, their average, the optimiser's state."""
    found = {"weights": _row(training.model.state_dict().values())}
    if training.average is not None:
        found["average"] = _row(training.average.weights.values())
    states = [training.optimizer.state[parameter] for parameter in training.model.parameters()]
    return found | {name: _row(state[name] for state in states) for name in states[0]}


def _row(tensors: Iterable[Tensor]) -> Array:
    found: Array = np.concatenate([tensor.detach().double().flatten().numpy() for tensor in tensors])
    return found


def states_apart(one: Training, other: Training) -> float:
    """Return the largest difference of what two trainings go on from, over the largest value of its kind."""
    first, second = state_of(one), state_of(other)
    unused = second.keys() - first.keys()  # an optimiser alone holds no momentum where it has none
    assert not unused or (unused == {"momentum_buffer"} and not other.optimizer.param_groups[0]["momentum"])
    return max(float(np.abs(first[kind] - second[kind]).max() / np.abs(first[kind]).max()) for kind in first)


def compared(members: Sequence[Nodes], epochs: int = 1, double: bool = True) -> float:
    """Train members alone and stacked; return the largest relative difference of any step, prediction and figure.

    Weights, averages, buffers and optimisers' states are held against each other after the last epoch.
    """
    alone, others = ([begun(double=double, **nodes) for nodes in members] for _ in range(2))
    return compared_trainings(alone, others, epochs)


def begun(**nodes: Any) -> Training:
    """Return a `member` that is ready for its first epoch."""
    training = member(**nodes)
    training.begin()
    return training


def compared_trainings(
    alone: Sequence[Training],
    others: Sequence[Training],
    epochs: int = 1,
) -> float:
    """Return the same for trainings at hand that have begun."""
    stack = stacked(others)
    worst = 0.0
    for _ in range(epochs):
        found = epoch_stacked(stack)
        for one, other in zip(alone, others, strict=True):
            expected = epoch_alone(one)
            worst = max(worst, apart(expected, found[other]))
            figures, others_figures = one.close_epoch(*expected[0]), other.close_epoch(*found[other][0])
            assert figures.keys() == others_figures.keys()
            assert figures["train/lr"] == others_figures["train/lr"]
    for one, other in zip(alone, others, strict=True):
        stack.release(other)
        worst = max(worst, states_apart(one, other))
    return worst


def assert_same_table(one: Training, other: Training) -> None:
    """Hold that what two trainings wrote down about their layers is the same."""
    assert one.diary is not None
    assert other.diary is not None
    table, found = one.diary.table, other.diary.table
    assert (table.layers, table.kinds) == (found.layers, found.kinds)
    np.testing.assert_array_equal(found.steps, table.steps)
    np.testing.assert_array_equal(found.rates, table.rates)
    for figure in FIGURES:  # sums of squares are taken in float32, and a gradient that is 0 may come out as rounding
        tolerance = 0.1 if figure == "gradient_zeros" else 2e-6
        np.testing.assert_allclose(found.of(figure), table.of(figure), rtol=1e-4, atol=tolerance, err_msg=figure)
    np.testing.assert_allclose(found.predictions, table.predictions, rtol=1e-4, atol=1e-6)
    assert [told.tag for told in one.diary.diagnoses(ended=True)] == [
        told.tag for told in other.diary.diagnoses(ended=True)
    ]
