"""Faults as users make them, planted by someone who had not seen the checks, and their healthy twins.

Which row has to say it was judged by the recipe's text alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from search.train import estimator, loop, steps
from search.train.batches import Batch, Batches, ResidentBatches
from search.train.data.arrays import Array, Dataset
from search.train.losses import Loss, predictions_of
from tests.kits.zoo import ADAMW, MLP, Case, config
from tests.zoo import blind_data as data

LEARNING = ("R13", "R14", "R16", "R17", "R36")
"""Where nothing is learned, these may all say so."""
DATA = ("R04", "R08", *LEARNING)
"""Where inputs say nothing about targets, or those of one split nothing about those of another, these may as well."""


def _part(name: str, **settings: Any) -> dict[str, Any]:
    return {"_target_": f"tests.zoo.blind_parts.{name}", **settings}


def _trainer(**settings: Any) -> dict[str, Any]:
    return {**config()["trainer"], **settings}


def _adam(lr: float) -> dict[str, Any]:
    return {"_target_": "torch.optim.Adam", "lr": lr}


SGD: dict[str, Any] = {"_target_": "torch.optim.SGD", "lr": 0.02, "momentum": 0.9}
SERIES: dict[str, Any] = {"optimizer": _adam(5e-3), "trainer": _trainer(epochs=20)}
LONGER: dict[str, Any] = {"optimizer": _adam(3e-3), "trainer": _trainer(epochs=20)}


# Faults in the code around the network.


def _file_order(train: Array, seed: int, epoch: int, batch_size: int) -> Tensor:
    """Return the order in which the examples lie."""
    return torch.as_tensor(train)[: len(train) - (len(train) % batch_size == 1)]


def _unseeded_order(train: Array, seed: int, epoch: int, batch_size: int) -> Tensor:
    """Return an order of a generator that nothing seeds."""
    order = np.random.default_rng().permutation(train)
    return torch.as_tensor(order[: len(order) - (len(order) % batch_size == 1)])


def _step_without_zero(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, batch: Batch, **_: object
) -> Tensor:
    """Take a step along all gradients since the start."""
    inputs, targets, indices = batch
    mean = loss(model(inputs), targets, indices)
    mean.backward()
    optimizer.step()
    return mean.detach() * len(targets)


def _first_batch(model: torch.nn.Module, batches: Batches, indices: Array, task: str, batch_size: int = 32) -> Array:
    """Predict the first batch and leave the loop: the others stay what the array began with."""
    model.eval()
    found: Array | None = None
    with torch.inference_mode():
        for inputs, _, _ in batches(torch.as_tensor(indices), 32):
            part = predictions_of(model(inputs), task)
            found = np.zeros((len(indices), *part.shape[1:]), dtype=np.float32)
            found[: len(part)] = part
            break
    assert found is not None
    return found


_STATISTICS = estimator._statistics


def _of_everything(inputs: Array, train: Array) -> tuple[Tensor, Tensor]:
    return _STATISTICS(inputs, np.arange(len(inputs)))


def _no_statistics(inputs: Array, train: Array) -> tuple[Tensor, Tensor]:
    mean, std = _STATISTICS(inputs, train)
    return torch.zeros_like(mean), torch.ones_like(std)


_CALL = ResidentBatches.__call__


def _separated(self: ResidentBatches, order: Tensor, batch_size: int) -> Iterator[Batch]:
    """Shuffle the inputs of a batch once more, without their targets."""
    for inputs, targets, indices in _CALL(self, order, batch_size):
        yield inputs[torch.randperm(len(inputs))], targets, indices


# The cases.

HEALTHY: tuple[Case, ...] = (
    Case(name="digits", dataset=data.split(data.digits), config=config(MLP)),
    Case(name="digits in floats", dataset=data.split(data.floats), config=config(MLP)),
    Case(name="digits, sgd", dataset=data.split(data.digits), config=config(MLP, optimizer=SGD)),
    Case(name="digits, a net of one's own", dataset=data.split(data.digits), config=config(_part("Net"))),
    Case(
        name="digits, negative log-likelihood",
        dataset=data.split(data.even),
        config=config(_part("LogSoftmaxNet"), loss={"_target_": "torch.nn.NLLLoss"}),
    ),
    Case(name="digits, dropout", dataset=data.split(data.digits), config=config(_part("DropoutNet"))),
    Case(name="digits, noise", dataset=data.split(data.digits), config=config(_part("NoiseNet"))),
    Case(name="digits, attention over units", dataset=data.split(data.digits), config=config(_part("AttendedNet"))),
    Case(
        name="digits, brier score",
        dataset=data.split(data.digits),
        config=config(_part("Net"), loss=_part("one_hot_error"), **LONGER),
    ),
    Case(
        name="digits, penalty",
        dataset=data.split(data.digits),
        config=config(_part("Net"), loss=_part("Composite", weight=1e-3)),
    ),
    Case(name="digits, convolutions", dataset=data.split(data.digits), config=config(_part("PictureNet"), **LONGER)),
    Case(name="digits, centred rows", dataset=data.split(data.digits), config=config(_part("CentredNet"), **LONGER)),
    Case(name="narrow digits", dataset=data.split(data.narrow), config=config(_part("PictureNet"), **LONGER)),
    Case(name="breast cancer", dataset=data.split(data.table("breast_cancer")), config=config(_part("Net"))),
    Case(
        name="breast cancer, swish", dataset=data.split(data.table("breast_cancer")), config=config(_part("SwishNet"))
    ),
    Case(name="wine", dataset=data.split(data.table("wine")), config=config(MLP, **LONGER)),
    Case(name="loans", dataset=data.split(data.loans), config=config(_part("Net", width=32))),
    Case(name="furrows", dataset=data.split(data.furrows), config=config(_part("Net", width=32), **LONGER)),
    Case(name="diabetes", dataset=data.split(data.table("diabetes")), config=config(_part("Net", width=32))),
    Case(
        name="harvest",
        dataset=data.split(data.harvest),
        config=config(_part("Net"), loss=_part("squared_error"), **LONGER),
    ),
    Case(
        name="tides",
        dataset=data.split(data.tides),
        config=config(_part("LongMemory"), optimizer=_adam(1e-2), trainer=_trainer(epochs=30)),
    ),
    Case(name="waves", dataset=data.split(data.waves), config=config(_part("Recurrent"), **SERIES)),
    Case(
        name="waves, causal convolutions", dataset=data.split(data.waves), config=config(_part("CausalNet"), **SERIES)
    ),
    Case(
        name="waves, causal attention",
        dataset=data.split(data.waves),
        config=config(_part("CausalTransformer"), **SERIES),
    ),
    Case(name="waves, windows", dataset=data.split(data.waves), config=config(_part("WindowNet"), **SERIES)),
    Case(name="beats", dataset=data.split(data.beats), config=config(_part("LongMemory"), **SERIES)),
)

_TWINS = {case.name: case for case in HEALTHY}


def _of(
    twin: str,
    name: str,
    rows: str,
    /,
    *,
    related: tuple[str, ...] = (),
    model: dict[str, Any] | None = None,
    dataset: Callable[[int], Dataset] | None = None,
    fatal: bool = False,
    planted: Any = None,
    **nodes: Any,
) -> Case:
    """Return a healthy case with something of it exchanged."""
    case = _TWINS[twin]
    changed = {**case.config, **({} if model is None else {"model": model}), **nodes}
    made = dataclasses.replace(
        case,
        name=name,
        dataset=dataset or case.dataset,
        config=changed,
        rows=tuple(rows.split()),
        fatal=fatal,
        related=related,
        twin=twin,
    )
    return made if planted is None else dataclasses.replace(made, planted=planted)


_LABELS = (
    _of("digits", "5 % of labels flipped", "R04", dataset=data.split(data.flipped(data.digits, 0.05))),
    _of(
        "breast cancer",
        "8 % of a table's labels flipped",
        "R04",
        dataset=data.split(data.flipped(data.table("breast_cancer"), 0.08)),
    ),
    _of("waves", "a quarter of a class taken for another", "R04", dataset=data.split(data.confused)),
    _of("digits", "a third of labels off by one", "R04", dataset=data.split(data.counted_from_one), related=DATA),
    _of(
        "harvest",
        "targets shifted by a row",
        "R05 R08 R13 R14",
        fatal=True,
        related=DATA,
        dataset=data.split(data.shifted(data.harvest)),
    ),
    _of(
        "beats",
        "labels shifted by a series",
        "R05 R08 R13 R14",
        fatal=True,
        related=DATA,
        dataset=data.split(data.shifted(data.beats)),
    ),
    _of("digits", "a class with two examples", "R03", dataset=data.split(data.two_of_a_kind)),
    _of(
        "loans",
        "three of a hundred are of class 1",
        "R03",
        related=("R13", "R14"),
        dataset=data.split(lambda seed: data.loans_with(seed, 12)),
    ),
    _of("harvest", "3 % of targets in another unit", "R04 R07", dataset=data.split(data.wrong_unit), related=DATA),
    _of("diabetes", "a column made from the target", "R07 R08 R13", dataset=data.split(data.target_among_columns)),
    _of("tides", "windows one step too long", "R07 R08 R13", dataset=data.split(data.one_step_too_long)),
)

_INPUTS = (
    _of("digits", "copies across splits", "R01", dataset=data.copied),
    _of("digits in floats", "augmented before the split", "R01", dataset=data.split(data.augmented_first)),
    _of("loans", "oversampled before the split", "R01", dataset=data.split(data.oversampled_first)),
    _of(
        "digits in floats",
        "NaN pixels",
        "R02",
        dataset=data.split(data.spoiled(data.floats, 0.05, data.without_corner)),
    ),
    _of(
        "wine",
        "the logarithm of 0",
        "R02",
        fatal=True,
        dataset=data.split(data.spoiled(data.table("wine"), 0.06, data.logarithm_of_zero)),
        related=("R06", "R07", "R09", "R10", "R11", "R12", "R18", "R19", "R20", "R21", "R22", "R23", *DATA),
    ),
    _of(
        "digits",
        "a tenth of pictures blank",
        "R02",
        related=("R01",),
        dataset=data.split(data.spoiled(data.digits, 0.1, data.blank)),
    ),
    _of(
        "waves",
        "all inputs alike",
        "R02 R08 R14",
        fatal=True,
        dataset=data.split(data.all_alike),
        related=("R01", "R06", "R07", "R09", "R18", "R19", *DATA),
    ),
    _of(
        "digits",
        "scaled to 0 to 1 as whole numbers",
        "R02 R06",
        dataset=data.split(data.whole_numbers),
        related=("R01", *DATA),
    ),
    _of(
        "narrow digits",
        "width for height in validation",
        "R02 R07",
        dataset=data.in_validation(data.narrow, data.turned),
        related=("R01", *DATA),
    ),
    _of(
        "digits in floats",
        "validation scaled twice",
        "R02 R06 R07",
        dataset=data.in_validation(data.floats, data.scaled_twice),
        related=("R01", *DATA),
    ),
    _of(
        "wine",
        "-9999 where a value is missing",
        "R02 R06 R07",
        dataset=data.split(data.spoiled(data.table("wine"), 0.04, data.sentinel)),
        related=DATA,
    ),
    _of(
        "harvest",
        "one row in thousandths",
        "R02 R06 R07",
        dataset=data.split(data.spoiled(data.harvest, 0.0025, data.millis)),
        related=DATA,
    ),
    _of(
        "furrows",
        "metres from the middle of the earth",
        "R02 R06 R09 R13 R14 R16",
        fatal=True,
        dataset=data.split(lambda seed: data.furrows(seed, data.EARTH_CENTRED)),
        related=("R01", "R07", "R18", "R19", *DATA),
    ),
    _of(
        "breast cancer",
        "statistics of all splits",
        "R06",
        dataset=data.within("test", data.table("breast_cancer"), data.brighter),
        related=("R02", "R07"),
        planted=lambda: patch.object(estimator, "_statistics", _of_everything),
    ),
    _of(
        "breast cancer",
        "no standardisation",
        "R06 R11 R12",
        related=("R02", "R20", *LEARNING),
        planted=lambda: patch.object(estimator, "_statistics", _no_statistics),
    ),
    _of(
        "digits, a net of one's own",
        "inputs times 255",
        "R06 R11 R12",
        model=_part("EnlargingNet"),
        related=("R20", *LEARNING),
    ),
    _of(
        "digits, a net of one's own",
        "normalised twice",
        "R06 R13 R14 R16 R17",
        model=_part("ShrinkingNet"),
        related=LEARNING,
    ),
)

_LOSSES = (
    _of(
        "digits, a net of one's own",
        "softmax before cross-entropy",
        "R20",
        model=_part("SoftmaxNet"),
        related=("R12", *LEARNING),
    ),
    _of(
        "digits, negative log-likelihood",
        "log-likelihood of logits",
        "R11 R20",
        fatal=True,
        model=_part("Net"),
        related=("R12", *LEARNING),
    ),
    _of(
        "digits, convolutions",
        "sum for mean",
        "R11 R20",
        related=("R12", *LEARNING),
        loss={"_target_": "torch.nn.CrossEntropyLoss", "reduction": "sum"},
    ),
    _of(
        "harvest",
        "sum for mean in a regression",
        "R11 R20",
        related=("R12", *LEARNING),
        loss={"_target_": "torch.nn.MSELoss", "reduction": "sum"},
    ),
    _of(
        "digits, a net of one's own",
        "loss clipped for its gradient",
        "R11 R13 R16 R17 R19 R20",
        fatal=True,
        loss=_part("clipped_cross_entropy"),
        related=("R12", "R18", *LEARNING),
    ),
    _of(
        "digits, brier score",
        "index for one-hot",
        "R11 R13 R16 R20",
        fatal=True,
        loss=_part("index_error"),
        related=("R12", *LEARNING),
    ),
    _of(
        "harvest",
        "(N, 1) against (N,)",
        "R16 R18 R20",
        fatal=True,
        loss=_part("broadcast_error"),
        related=("R22", "R23", *LEARNING),
    ),
    _of(
        "digits, penalty",
        "a part of the loss 10000 times the other",
        "R11 R20",
        related=("R12", *LEARNING),
        loss=_part("Composite", weight=1e4),
    ),
)

_TRAINING = (
    _of(
        "digits, sgd",
        "sorted by label and not shuffled",
        "R05",
        dataset=data.split(data.sorted_by_label(data.digits)),
        planted=lambda: patch.object(steps, "epoch_order", _file_order),
        related=LEARNING,
    ),
    _of(
        "beats",
        "series sorted by label and not shuffled",
        "R05",
        dataset=data.split(data.sorted_by_label(data.beats)),
        planted=lambda: patch.object(steps, "epoch_order", _file_order),
        related=LEARNING,
    ),
    _of(
        "digits",
        "inputs shuffled without their labels",
        "R05 R13 R14",
        fatal=True,
        related=("R10", "R21", "R23", *LEARNING),
        planted=lambda: patch.object(ResidentBatches, "__call__", _separated),
    ),
    _of(
        "digits",
        "an order that nothing seeds",
        "R10",
        related=("R05",),
        planted=lambda: patch.object(steps, "epoch_order", _unseeded_order),
    ),
    _of("digits, noise", "noise that nothing seeds", "R10", model=_part("UnseededNet")),
    _of(
        "digits, sgd",
        "gradients never set to zero",
        "R13 R16 R17",
        planted=lambda: patch.object(steps, "train_step", _step_without_zero),
        related=LEARNING,
    ),
    _of(
        "breast cancer",
        "evaluation of one batch",
        "R21",
        related=LEARNING,
        planted=lambda: patch.object(loop, "predict", _first_batch),
    ),
    _of(
        "digits, a net of one's own",
        "learning rate far too high",
        "R13 R16 R17 R36",
        fatal=True,
        optimizer=_adam(3.0),
        related=LEARNING,
    ),
    _of(
        "diabetes", "learning rate far too low", "R13 R16 R17 R36", fatal=True, optimizer=_adam(1e-8), related=LEARNING
    ),
    _of("digits, sgd", "uphill", "R13 R16 R17", fatal=True, optimizer={**SGD, "maximize": True}, related=LEARNING),
    _of(
        "tides",
        "optimiser of copies",
        "R13 R16 R17 R19",
        fatal=True,
        optimizer=_part("of_copies", lr=1e-2),
        related=LEARNING,
    ),
    _of(
        "digits, a net of one's own",
        "optimiser of the last layer alone",
        "R19",
        optimizer=_part("head_only", lr=1e-3),
        related=LEARNING,
    ),
    _of(
        "loans",
        "weight decay of 500",
        "R13 R17",
        fatal=True,
        optimizer={**ADAMW, "weight_decay": 500.0},
        related=LEARNING,
    ),
)

_MODELS = (
    _of(
        "digits, a net of one's own",
        "a final bias for other data",
        "R11 R12",
        model=_part("BiasedNet"),
        related=("R20",),
    ),
    _of("loans", "the prior twice", "R11 R12", model=_part("PriorNet", width=32, share=0.2)),
    _of(
        "digits, a net of one's own",
        "weights from N(0, 1)",
        "R11 R12",
        model=_part("NormalNet"),
        related=("R20", *LEARNING),
    ),
    _of(
        "breast cancer",
        "weights all zero",
        "R12 R14 R16 R19",
        fatal=True,
        model=_part("ZeroNet"),
        related=("R18", *LEARNING),
    ),
    _of(
        "digits, a net of one's own",
        "dead units",
        "R14 R16 R19",
        fatal=True,
        model=_part("DeadNet"),
        related=("R12", "R18", *LEARNING),
    ),
    _of("digits, a net of one's own", "frozen by accident", "R19", model=_part("FrozenNet"), related=LEARNING),
    _of("breast cancer", "a list of layers", "R19", model=_part("ListNet"), related=("R17", "R23")),
    _of("beats", "a detached state", "R19", model=_part("DetachedMemory"), related=("R18", *LEARNING)),
    _of(
        "beats",
        "the state before the series",
        "R14 R16 R19",
        fatal=True,
        model=_part("ForgetfulMemory"),
        related=("R12", "R18", *LEARNING),  # what the last layer is given is 0
    ),
    _of(
        "digits, a net of one's own",
        "input ignored",
        "R14 R16 R19",
        fatal=True,
        model=_part("DeafNet"),
        related=("R18", *LEARNING),
    ),
    _of("breast cancer, swish", "a wrong backward pass", "R19", model=_part("WrongSwishNet"), related=LEARNING),
    _of("digits", "a single unit", "R16 R17", model={**MLP, "width": 1, "depth": 1}, related=("R19", *LEARNING)),
    _of("digits, dropout", "dropout in evaluation", "R21", model=_part("DroppingNet"), related=("R10", "R23")),
    _of(
        "digits, convolutions",
        "batch norm by the batch in evaluation",
        "R18 R21",
        model=_part("BatchNormNet"),
        related=("R23",),
    ),
    _of(
        "digits, convolutions", "batch norm that hardly follows", "R21", model=_part("LaggingNormNet"), related=LEARNING
    ),
    _of(
        "digits, a net of one's own",
        "all but a patch erased",
        "R09 R13 R16 R17 R21",
        model=_part("ErasingNet"),
        related=LEARNING,
    ),
    _of(
        "digits, a net of one's own",
        "pictures mixed without their labels",
        "R16 R18",
        model=_part("MixingNet"),
        related=("R21", "R23", *LEARNING),
    ),
    _of(
        "digits, attention over units",
        "attention over the batch",
        "R18 R23",
        model=_part("BatchAttendedNet"),
        related=("R21",),
    ),
    _of(
        "waves",
        "reshape for permute",
        "R18",
        fatal=True,
        model=_part("ViewedRecurrent"),
        related=("R22", "R23", *LEARNING),
    ),
    _of("waves, causal convolutions", "padding into the future", "R18", model=_part("LeakyCausalNet")),
    _of("waves, causal attention", "a mask the wrong way round", "R18", model=_part("LeakyTransformer")),
    _of("waves, windows", "a quick way that differs", "R23", model=_part("MisreadWindowNet"), related=("R18",)),
    _of(
        "digits, a net of one's own",
        "a single example squeezed",
        "R22 R23",
        model=_part("SqueezingNet"),
        related=("R18",),
    ),
    _of("digits, centred rows", "rows taken for columns", "R22", model=_part("MiscentredNet")),
)

FAULTS: tuple[Case, ...] = (*_LABELS, *_INPUTS, *_LOSSES, *_TRAINING, *_MODELS)
