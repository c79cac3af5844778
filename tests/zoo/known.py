"""The half of the zoo by those who wrote the checks: at least one fault for each row."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from search.train import estimator, loop, steps
from search.train.data.arrays import Array, Dataset, Split
from tests.kits.zoo import ADAMW, CNN, LINEAR, MLP, Case, config, digits, divided, table

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
ADAM = {**ADAMW, "_target_": "torch.optim.Adam", "lr": 3e-4, "weight_decay": 0.0}


def plain(seed: int) -> Dataset:
    return divided(digits(seed), seed)


def rows_of(name: str) -> Callable[[int], Dataset]:
    return lambda seed: divided(table(name, seed), seed)


def changed(data: Dataset, *, inputs: Array | None = None, targets: Array | None = None) -> Dataset:
    """Return the data with other inputs or targets, the split as it was."""
    examples = data.examples
    replaced = dataclasses.replace(
        examples,
        inputs=examples.inputs if inputs is None else inputs,
        targets=examples.targets if targets is None else targets,
    )
    return dataclasses.replace(data, examples=replaced)


def part(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"tests.zoo.known_parts.{name}", **arguments}


def nearly_copied(seed: int) -> Dataset:
    """Half of the validation and test examples are training examples with a grey level of noise."""
    data = plain(seed)
    generator, inputs = np.random.default_rng(seed), data.examples.inputs.astype(np.float32)
    targets = data.examples.targets.copy()
    for indices in (data.split.validation, data.split.test):
        chosen = generator.choice(indices, len(indices) // 2, replace=False)
        sources = generator.choice(data.split.train, len(chosen), replace=False)
        inputs[chosen] = inputs[sources] + generator.normal(0, 0.1, inputs[chosen].shape)
        targets[chosen] = targets[sources]
    return changed(data, inputs=inputs, targets=targets)


def infinite(seed: int) -> Dataset:
    data = rows_of("wine")(seed)
    inputs = data.examples.inputs.copy()
    inputs[data.split.train[:4], 2] = np.inf
    return changed(data, inputs=inputs)


def mixed_ranges(seed: int) -> Dataset:
    """A third of the pictures came divided by their largest value."""
    data = plain(seed)
    inputs = data.examples.inputs.astype(np.float32)
    inputs[::3] /= 16
    return changed(data, inputs=inputs)


def without_a_class(seed: int) -> Dataset:
    """The training split has no example of the last class."""
    data = plain(seed)
    train = data.split.train[data.examples.targets[data.split.train] != 9]
    return dataclasses.replace(data, split=dataclasses.replace(data.split, train=train))


def flipped(seed: int) -> Dataset:
    """Every tenth label of training and validation is another one."""
    data = plain(seed)
    generator, targets = np.random.default_rng(seed), data.examples.targets.copy()
    known = np.concatenate([data.split.train, data.split.validation])
    chosen = generator.choice(known, len(known) // 10, replace=False)
    targets[chosen] = (targets[chosen] + generator.integers(1, 10, len(chosen))) % 10
    return changed(data, targets=targets)


def in_order(seed: int) -> Dataset:
    """Sorted by label and cut by position."""
    examples = digits(seed)
    order = np.argsort(examples.targets, kind="stable")
    first, second = int(0.6 * len(order)), int(0.8 * len(order))
    split = Split(train=order[:first], validation=order[first:second], test=order[second:])
    return Dataset(examples=examples, split=split)


def drifted(seed: int) -> Dataset:
    """Validation and test were measured with another instrument."""
    data = rows_of("breast_cancer")(seed)
    inputs = data.examples.inputs.copy()
    rest = np.concatenate([data.split.validation, data.split.test])
    inputs[rest] += 2 * inputs[data.split.train].std(axis=0)
    return changed(data, inputs=inputs)


def with_an_outlier(seed: int) -> Dataset:
    data = rows_of("breast_cancer")(seed)
    inputs = data.examples.inputs.copy()
    inputs[data.split.train[:3]] *= 1000
    return changed(data, inputs=inputs)


def shuffled(seed: int) -> Dataset:
    """Inputs were shuffled without their labels."""
    data = plain(seed)
    return changed(data, targets=np.random.default_rng(seed).permutation(data.examples.targets))


def all_alike(seed: int) -> Dataset:
    data = plain(seed)
    return changed(data, inputs=np.repeat(data.examples.inputs[:1], len(data.examples), axis=0))


@contextlib.contextmanager
def patched(module: Any, name: str, other: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, other)
        yield


def by_label(train: Array, seed: int, epoch: int, batch_size: int) -> torch.Tensor:
    """Stand for an order in which the labels come one after the other: digits come sorted by their index here."""
    del seed, epoch, batch_size
    return torch.as_tensor(np.sort(train))


def sorted_by_label(seed: int) -> Dataset:
    """The examples lie sorted by label; the split is stratified."""
    examples = digits(seed)
    order = np.argsort(examples.targets, kind="stable")
    return divided(dataclasses.replace(examples, inputs=examples.inputs[order], targets=examples.targets[order]), seed)


def raw_statistics(inputs: Array, train: Array) -> Any:
    """Normalise by nothing."""
    del train
    shape = (inputs.shape[1],) + (1,) * (inputs.ndim - 2)
    return torch.zeros(shape), torch.ones(shape)


def one_batch(model: Any, batches: Any, indices: Array, task: str, batch_size: int = 64) -> Array:
    """Evaluate the first batch alone, and say the same of the others."""
    first = _PREDICT(model, batches, indices[:16], task, batch_size)
    return np.resize(first, (len(indices), *first.shape[1:]))


_PREDICT = loop.predict

HEALTHY = (
    Case(name="digits, mlp", dataset=plain),
    Case(name="digits, mlp with dropout", dataset=plain, config=config({**MLP, "dropout": 0.3})),
    Case(name="digits, own net", dataset=plain, config=config(part("Net"))),
    Case(name="digits, own net, sgd", dataset=plain, config=config(part("Net"), optimizer=SGD)),
    Case(name="digits sorted by label, mlp", dataset=sorted_by_label),
    Case(name="wine, mlp", dataset=rows_of("wine")),
    Case(name="breast_cancer, mlp", dataset=rows_of("breast_cancer")),
    Case(name="diabetes, own net", dataset=rows_of("diabetes"), config=config(part("Net"))),
)

FAULTS = (
    Case(
        name="near copies across splits",
        dataset=nearly_copied,
        rows=("R01",),
        fatal=True,
        twin="digits, mlp",
    ),
    Case(
        name="infinite values in a table",
        dataset=infinite,
        config=config(part("Net")),
        rows=("R02",),
        fatal=True,
        related=("R06", "R07", "R09", "R10", "R11", "R12", "R13", "R14", "R16", "R17", "R19", "R20", "R21"),
        twin="wine, mlp",
    ),
    Case(name="pictures of two ranges", dataset=mixed_ranges, rows=("R02", "R06", "R07"), twin="digits, mlp"),
    Case(
        name="a class without training examples",
        dataset=without_a_class,
        rows=("R03",),
        fatal=True,
        related=("R05",),
        twin="digits, mlp",
    ),
    Case(name="10 % of the labels flipped", dataset=flipped, rows=("R04",), twin="digits, mlp"),
    Case(
        name="split by position of sorted data",
        dataset=in_order,
        rows=("R03", "R05"),
        fatal=True,
        related=("R08", "R13", "R14"),
        twin="digits, mlp",
    ),
    Case(
        name="batches of one class",
        dataset=sorted_by_label,
        planted=lambda: patched(steps, "epoch_order", by_label),
        rows=("R05",),
        fatal=True,
        related=("R10", "R13", "R14", "R17"),
        twin="digits sorted by label, mlp",
    ),
    Case(
        name="another instrument after training",
        dataset=drifted,
        rows=("R06",),
        related=("R13", "R14"),  # they look at the validation split
        twin="breast_cancer, mlp",
    ),
    Case(
        name="inputs not normalised",
        dataset=rows_of("breast_cancer"),
        planted=lambda: patched(estimator, "_statistics", raw_statistics),
        rows=("R06",),
        related=("R11", "R12", "R13", "R16", "R17", "R19"),
        twin="breast_cancer, mlp",
    ),
    Case(
        name="three rows in another unit",
        dataset=with_an_outlier,
        rows=("R07", "R02"),
        related=("R13", "R14", "R16", "R17"),  # the others are standardised by the deviation of these three
        twin="breast_cancer, mlp",
    ),
    Case(
        name="inputs shuffled without labels",
        dataset=shuffled,
        rows=("R08",),
        fatal=True,
        related=("R04", "R13", "R14"),
        twin="digits, mlp",
    ),
    Case(
        name="one picture for all",
        dataset=all_alike,
        rows=("R02", "R09"),
        fatal=True,
        related=("R01", "R04", "R08", "R12", "R13", "R14", "R16", "R17", "R18", "R19"),
        twin="digits, mlp",
    ),
    Case(
        name="noise that nobody seeds",
        dataset=plain,
        config=config(part("Unseeded")),
        rows=("R10",),
        fatal=True,
        twin="digits, own net",
    ),
    Case(
        name="last layer thirty times too large",
        dataset=plain,
        config=config(part("Loud")),
        rows=("R11",),
        fatal=True,
        related=("R12",),
        twin="digits, own net",
    ),
    Case(
        name="last bias for one class",
        dataset=plain,
        config=config(part("Biased")),
        rows=("R12", "R11"),
        fatal=True,
        twin="digits, own net",
    ),
    Case(
        name="blind to its input",
        dataset=plain,
        config=config(part("Deaf")),
        rows=("R14",),
        fatal=True,
        related=("R12", "R13", "R16", "R17", "R18", "R19"),
        twin="digits, own net",
    ),
    Case(
        name="one hidden unit",
        dataset=plain,
        config=config(part("Narrow")),
        rows=("R16",),
        fatal=True,
        related=("R12", "R13", "R14", "R17", "R19"),
        twin="digits, own net",
    ),
    Case(
        name="normalised over the batch",
        dataset=plain,
        config=config(part("Ranked")),
        rows=("R18",),
        fatal=True,
        related=("R21", "R23", "R22"),
        twin="digits, own net",
    ),
    Case(
        name="a neighbour in the batch",
        dataset=plain,
        config=config(part("Stacked")),
        rows=("R18",),
        fatal=True,
        related=("R21", "R23", "R22", "R16", "R13"),
        twin="digits, own net",
    ),
    Case(
        name="a frozen layer",
        dataset=plain,
        config=config(part("Frozen")),
        rows=("R19",),
        twin="digits, own net",
    ),
    Case(
        name="a graph cut in the middle",
        dataset=plain,
        config=config(part("Detached")),
        rows=("R19",),
        fatal=True,
        related=("R16", "R18"),
        twin="digits, own net",
    ),
    Case(
        name="no unit ever fires",
        dataset=plain,
        config=config(part("Dying")),
        rows=("R12", "R19"),
        fatal=True,
        related=("R12", "R13", "R14", "R16", "R17", "R18", "R19"),
        twin="digits, own net",
    ),
    Case(
        name="a signal that fades",
        dataset=plain,
        config=config(part("Fading")),
        rows=("R12",),
        related=("R13", "R14", "R16", "R17", "R19"),
        twin="digits, own net",
    ),
    Case(
        name="times 255 inside the network",
        dataset=plain,
        config=config(part("Scaled")),
        rows=("R06", "R11"),
        related=("R11", "R12", "R13", "R17"),
        twin="digits, own net",
    ),
    Case(
        name="the optimiser has the head alone",
        dataset=plain,
        config=config(part("Net"), optimizer={**ADAMW, **part("of_the_head")}),
        rows=("R19",),
        fatal=True,
        related=("R16",),
        twin="digits, own net",
    ),
    Case(
        name="gradients never forgotten",
        dataset=plain,
        config=config(part("Net"), optimizer={**SGD, **part("Hoarding")}),
        rows=("R10", "R16", "R17", "R19", "R20"),
        fatal=True,
        related=("R13", "R14", "R16", "R17"),
        twin="digits, own net, sgd",
    ),
    Case(
        name="the sum of the batch's losses",
        dataset=plain,
        config=config(part("Net"), loss=part("summed")),
        rows=("R20",),
        fatal=True,
        related=("R11", "R23"),
        twin="digits, own net",
    ),
    Case(
        name="the likelihood of logits",
        dataset=plain,
        config=config(part("Net"), loss=part("likelihood")),
        rows=("R20",),
        fatal=True,
        related=("R11", "R13", "R14", "R16", "R17"),
        twin="digits, own net",
    ),
    Case(
        name="a loss that stops at 1",
        dataset=plain,
        config=config(part("Net"), loss=part("clipped")),
        rows=("R20",),
        fatal=True,
        related=("R11", "R13", "R14", "R16", "R17", "R19", "R23"),
        twin="digits, own net",
    ),
    Case(
        name="every output against every target",
        dataset=rows_of("diabetes"),
        config=config(part("Net"), loss=part("spread")),
        rows=("R20",),
        fatal=True,
        related=("R13", "R14", "R16", "R17", "R23"),
        twin="diabetes, own net",
    ),
    Case(
        name="units dropped in evaluation",
        dataset=plain,
        config=config(part("Noisy")),
        rows=("R21",),
        fatal=True,
        related=("R18", "R23", "R16", "R19", "R22"),
        twin="digits, own net",
    ),
    Case(
        name="one batch stands for all",
        dataset=plain,
        planted=lambda: patched(loop, "predict", one_batch),
        rows=("R21",),
        fatal=True,
        related=("R13", "R14", "R23"),
        twin="digits, mlp",
    ),
    Case(
        name="batches of 32 alone",
        dataset=plain,
        config=config(part("Wired")),
        rows=("R22",),
        fatal=True,
        # whatever has another number of examples cannot be done
        related=tuple(f"R{row}" for row in (*range(9, 24), 36)),
        twin="digits, own net",
    ),
    Case(
        name="a rate a thousand times too high",
        dataset=plain,
        config=config(optimizer={**SGD, "lr": 100.0}),
        rows=("R17", "R13"),
        fatal=True,
        related=("R13", "R14", "R16"),
        twin="digits, mlp",
    ),
    Case(
        name="a rate ten thousand times too low",
        dataset=plain,
        config=config(optimizer={**ADAMW, "lr": 1e-7}),
        rows=("R17", "R13", "R36"),
        fatal=True,
        related=("R13", "R14"),
        twin="digits, mlp",
    ),
)

_OPTIMIZERS = {"adamw": ADAMW, "adam": ADAM, "sgd": SGD}
_MODELS = {"linear": LINEAR, "mlp": MLP, "cnn": CNN}

BUNDLED = (
    *(
        Case(name=f"bundled: {model} on digits", dataset=plain, config=config(_MODELS[model]))
        for model in ("linear", "mlp", "cnn")
    ),
    *(
        Case(name=f"bundled: {model} on {data}", dataset=rows_of(data), config=config(_MODELS[model]))
        for data in ("iris", "wine", "breast_cancer", "diabetes")
        for model in ("linear", "mlp")
    ),
    *(
        Case(name=f"bundled: mlp on digits by {name}", dataset=plain, config=config(MLP, optimizer=optimizer))
        for name, optimizer in _OPTIMIZERS.items()
        if name != "adamw"
    ),
)
"""Every bundled model on every bundled data set that it fits, as it comes."""
