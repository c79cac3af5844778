"""Small data that networks of several kinds learn well, and what loaders do to it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from search.train.data.arrays import Array, Dataset, Examples
from tests.kits import zoo
from tests.kits.zoo import divided

Made = Callable[[int], Examples]
"""Data by a seed."""


# Healthy. Everything is drawn by the seed and lies in no order.


@functools.lru_cache(maxsize=8)
def digits(seed: int) -> Examples:
    return zoo.digits(seed)


def _with(examples: Examples, inputs: Array | None = None, targets: Array | None = None) -> Examples:
    return dataclasses.replace(
        examples,
        inputs=examples.inputs if inputs is None else inputs,
        targets=examples.targets if targets is None else targets,
    )


def _classes(name: str, inputs: Array, targets: Array) -> Examples:
    names = tuple(map(str, range(int(targets.max()) + 1)))
    return Examples(name=name, inputs=inputs, targets=targets.astype(np.int64), task="classification", classes=names)


def _numbers(name: str, inputs: Array, targets: Array) -> Examples:
    return Examples(name=name, inputs=inputs, targets=targets.astype(np.float32), task="regression")


def even(seed: int) -> Examples:
    """Digits, 50 of each, so that the prior adds nothing to a network's outputs."""
    examples = zoo.digits(seed, 1797)
    chosen = np.concatenate([np.flatnonzero(examples.targets == label)[:50] for label in range(10)])
    return _with(examples, examples.inputs[np.sort(chosen)], examples.targets[np.sort(chosen)])


def narrow(seed: int) -> Examples:
    """Digits without their outer columns, which are nearly always blank: pictures (N, 1, 8, 6)."""
    examples = digits(seed)
    return _with(examples, np.ascontiguousarray(examples.inputs[..., 1:7]))


def floats(seed: int) -> Examples:
    """Digits in 0 to 1."""
    examples = digits(seed)
    return _with(examples, examples.inputs.astype(np.float32) / 16)


def waves(seed: int) -> Examples:
    """Series (400, 2, 24) of three forms at nearly the same place: a bump, two bumps, a dip; and the slope of each."""
    generator = np.random.default_rng(seed)
    targets = generator.permutation(np.arange(400) % 3)
    time = np.arange(24.0) - 11.5 - generator.uniform(-1, 1, (400, 1))
    forms = np.stack([_bump(time), _bump(time - 6) + _bump(time + 6), -_bump(time)])
    clean = forms[targets, np.arange(400)] * generator.uniform(1.5, 2.5, (400, 1))
    both = np.stack([clean, np.gradient(clean, axis=1)], axis=1)
    return _classes("waves", (both + generator.normal(0, 0.3, both.shape)).astype(np.float32), targets)


def _bump(time: Array) -> Array:
    return np.asarray(np.exp(-((time / 2.5) ** 2)))


def beats(seed: int) -> Examples:
    """Series (300, 1, 30) of two classes: a peak with a second wave after it that points up or down."""
    generator = np.random.default_rng(seed)
    targets = generator.permutation(np.arange(300) % 2)
    time = np.arange(30.0) - generator.uniform(-1, 1, (300, 1))
    clean = 2 * _bump(time - 8) + (1 - 2 * targets[:, None]) * _bump((time - 20) / 1.5)
    return _classes("beats", (clean + generator.normal(0, 0.2, clean.shape)).astype(np.float32)[:, None], targets)


def tides(seed: int) -> Examples:
    """Series (400, 1, 20) of a wave with noise, and the value that comes next."""
    generator = np.random.default_rng(seed)
    pace, phase, size = (generator.uniform(low, high, (400, 1)) for low, high in ((0.3, 0.5), (0.0, 6.28), (1.0, 2.0)))
    whole = size * np.sin(pace * np.arange(21) + phase) + generator.normal(0, 0.1, (400, 21))
    return _numbers("tides", whole[:, None, :20].astype(np.float32), whole[:, 20])


def harvest(seed: int) -> Examples:
    """A table (400, 5) of sklearn's first Friedman problem, with little noise: a regression."""
    from sklearn.datasets import make_friedman1

    inputs, targets = make_friedman1(400, n_features=5, noise=0.3, random_state=seed)
    return _numbers("harvest", inputs.astype(np.float32), targets)


def loans(seed: int) -> Examples:
    """A table (400, 8) in which one of five belongs to class 1."""
    return loans_with(seed, 80)


def loans_with(seed: int, rare: int) -> Examples:
    generator = np.random.default_rng(seed)
    targets = generator.permutation(np.arange(400) < rare).astype(np.int64)
    inputs = generator.normal(size=(400, 8)) + 2.5 * targets[:, None] * np.array([1, -1, 1, 0.5, -0.5, 0, 0, 0])
    return _classes("loans", inputs.astype(np.float32), targets)


def furrows(seed: int, origin: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Examples:
    """A table (300, 3), float64: where a robot's hand is, in metres, and on which side of a row of plants that is."""
    generator = np.random.default_rng(seed)
    inputs = generator.uniform(-0.05, 0.05, (300, 3))
    side = inputs @ np.array([1.0, -0.7, 0.5]) > 0
    return _classes("furrows", inputs + np.array(origin), side)


def split(made: Made) -> Callable[[int], Dataset]:
    """Divide data as a search does."""
    return lambda seed: divided(made(seed), seed)


def table(name: str) -> Made:
    return lambda seed: zoo.table(name, seed)


# With a fault. Most faults are the loader's and there before the split is made.


def _drawn(seed: int, number: int, share: float) -> Array:
    """Return that share of the indices below `number`."""
    return np.random.default_rng([seed, 7]).permutation(number)[: round(share * number)]


def flipped(made: Made, share: float) -> Made:
    """Give that share of the examples another class."""

    def faulty(seed: int) -> Examples:
        examples = made(seed)
        chosen, targets = _drawn(seed, len(examples), share), examples.targets.copy()
        by = np.random.default_rng([seed, 8]).integers(1, len(examples.classes), len(chosen))
        targets[chosen] = (targets[chosen] + by) % len(examples.classes)
        return _with(examples, targets=targets)

    return faulty


def confused(seed: int) -> Examples:
    """Someone took a quarter of class 0 for class 2."""
    examples = waves(seed)
    first = np.flatnonzero(examples.targets == 0)
    targets = examples.targets.copy()
    targets[first[: len(first) // 4]] = 2
    return _with(examples, targets=targets)


def counted_from_one(seed: int) -> Examples:
    """A third of the files count their classes from 1."""
    examples = digits(seed)
    chosen, targets = _drawn(seed, len(examples), 1 / 3), examples.targets.copy()
    targets[chosen] = (targets[chosen] + 1) % 10
    return _with(examples, targets=targets)


def shifted(made: Made) -> Made:
    """A header row was counted in one file and not in the other: each target belongs to the example before."""

    def faulty(seed: int) -> Examples:
        examples = made(seed)
        return _with(examples, targets=np.roll(examples.targets, 1))

    return faulty


def copied(seed: int) -> Dataset:
    """A third of the validation and test pictures are in the training split as well."""
    dataset = divided(digits(seed), seed)
    inputs, targets = dataset.examples.inputs.copy(), dataset.examples.targets.copy()
    train, validation, test = (dataset.split.of(part) for part in ("train", "validation", "test"))
    held = np.concatenate([validation[::3], test[::3]])
    inputs[held], targets[held] = inputs[train[: len(held)]], targets[train[: len(held)]]
    return Dataset(examples=_with(dataset.examples, inputs, targets), split=dataset.split)


def augmented_first(seed: int) -> Examples:
    """Each picture three times with a little noise, and only then divided."""
    examples = zoo.some_of(digits(seed), seed, 150)
    generator = np.random.default_rng([seed, 9])
    inputs = np.repeat(examples.inputs.astype(np.float32), 3, axis=0)
    inputs = np.clip(inputs + generator.normal(0, 0.2, inputs.shape), 0, 16).astype(np.float32)
    order = generator.permutation(len(inputs))
    return _with(examples, inputs[order], np.repeat(examples.targets, 3)[order])


def oversampled_first(seed: int) -> Examples:
    """The rare class copied until it is as frequent as the other, and only then divided."""
    examples = loans_with(seed, 60)
    rare = np.flatnonzero(examples.targets == 1)
    common = np.flatnonzero(examples.targets == 0)[:240]
    order = np.random.default_rng([seed, 9]).permutation(np.concatenate([common, np.tile(rare, 4)]))
    return _with(examples, examples.inputs[order], examples.targets[order])


def spoiled(made: Made, share: float, spoil: Callable[[Array], None]) -> Made:
    """Do something to the inputs of that share of the examples, in place."""

    def faulty(seed: int) -> Examples:
        examples = made(seed)
        chosen, inputs = _drawn(seed, len(examples), share), examples.inputs.copy()
        part = inputs[chosen]
        spoil(part)
        inputs[chosen] = part
        return _with(examples, inputs)

    return faulty


def without_corner(pictures: Array) -> None:
    pictures[..., 2:5, 2:5] = np.nan


def logarithm_of_zero(rows: Array) -> None:
    rows[:, 3] = -np.inf


def blank(pictures: Array) -> None:
    pictures[...] = 0


def sentinel(rows: Array) -> None:
    rows[:, 4] = -9999.0


def millis(rows: Array) -> None:
    rows[:, 0] *= 1000.0


def all_alike(seed: int) -> Examples:
    examples = waves(seed)
    return _with(examples, np.ones_like(examples.inputs))


def whole_numbers(seed: int) -> Examples:
    """Pictures scaled to 0 to 1 and put back into bytes: only the brightest pixels are left."""
    examples = digits(seed)
    return _with(examples, (examples.inputs / 16.0).astype(np.uint8))


def in_validation(made: Made, change: Callable[[Array], Array]) -> Callable[[int], Dataset]:
    """Change the inputs of the validation split alone."""
    return within("validation", made, change)


def within(part: str, made: Made, change: Callable[[Array], Array]) -> Callable[[int], Dataset]:
    def changed(seed: int) -> Dataset:
        dataset = divided(made(seed), seed)
        inputs = dataset.examples.inputs.copy()
        inputs[dataset.split.of(part)] = change(inputs[dataset.split.of(part)])
        return Dataset(examples=_with(dataset.examples, inputs), split=dataset.split)

    return changed


def turned(pictures: Array) -> Array:
    """Read the bytes of pictures (N, 1, 8, 6), written column by column, as if they were written row by row."""
    return pictures.transpose(0, 1, 3, 2).reshape(pictures.shape)


def scaled_twice(pictures: Array) -> Array:
    return np.asarray(pictures / 255)


def brighter(rows: Array) -> Array:
    """Return what an instrument with another calibration measures."""
    return np.asarray(4 * rows + 2 * rows.std(axis=0))


def two_of_a_kind(seed: int) -> Examples:
    examples = digits(seed)
    nines = np.flatnonzero(examples.targets == 9)
    kept = np.setdiff1d(np.arange(len(examples)), nines[2:])
    return _with(examples, examples.inputs[kept], examples.targets[kept])


def target_among_columns(seed: int) -> Examples:
    """A column was made from the target: its value in other units, rounded."""
    examples = zoo.table("diabetes", seed)
    column = np.round(examples.targets / 7.3, 1)
    return _with(examples, np.column_stack([examples.inputs, column]).astype(np.float32))


def one_step_too_long(seed: int) -> Examples:
    """The window ends with the value that is to be predicted."""
    examples = tides(seed)
    whole = np.concatenate([examples.inputs, examples.targets[:, None, None]], axis=2)
    return _with(examples, np.ascontiguousarray(whole[:, :, 1:]))


def wrong_unit(seed: int) -> Examples:
    """Three of a hundred targets were entered in a unit a hundred times smaller."""
    examples = harvest(seed)
    targets = examples.targets.copy()
    targets[_drawn(seed, len(examples), 0.03)] *= 100
    return _with(examples, targets=targets)


def sorted_by_label(made: Made) -> Made:
    def in_order(seed: int) -> Examples:
        examples = made(seed)
        order = np.argsort(examples.targets, kind="stable")
        return _with(examples, examples.inputs[order], examples.targets[order])

    return in_order


EARTH_CENTRED = (3_906_412.0, 1_120_887.0, 4_903_055.0)
"""Metres from the middle of the earth, where float32 has steps of 0.1 to 0.5."""
