"""Inputs beside those with labels: blends of them, and data sets that they are put behind."""

import numpy as np
import pytest

from search.train.data.arrays import Array, Dataset, Examples, Split
from search.train.data.blends import blends
from search.train.data.more import with_transfer, with_validation


def dataset(inputs: Array) -> Dataset:
    number = len(inputs)
    examples = Examples(
        name="x",
        inputs=inputs,
        targets=np.arange(number, dtype=np.int64) % 2,
        task="classification",
        classes=("a", "b"),
    )
    parts = np.array_split(np.arange(number), 3)
    return Dataset(examples=examples, split=Split(train=parts[0], validation=parts[1], test=parts[2]))


def pictures(dtype: str = "float32") -> Dataset:
    return dataset(np.random.default_rng(0).integers(0, 256, (12, 1, 2, 2)).astype(dtype))


def test_a_blend_lies_between_two_training_examples() -> None:
    data = dataset(np.array([[0.0], [10.0], [99.0], [99.0], [99.0], [99.0]], dtype=np.float32))
    made = blends(data, 400, seed=0)
    assert made.shape == (400, 1)
    assert made.dtype == np.float32
    assert 0 <= made.min() < 1
    assert 9 < made.max() <= 10
    between = ((made > 0.5) & (made < 9.5)).mean()
    assert between == pytest.approx(0.45, abs=0.08), "half of the pairs are one example twice; shares are uniform"


def test_blends_are_the_seeds() -> None:
    np.testing.assert_array_equal(blends(pictures(), 5, 1), blends(pictures(), 5, 1))
    assert not np.array_equal(blends(pictures(), 5, 1), blends(pictures(), 5, 2))


def test_inputs_stand_behind_the_datas_own_and_are_trained_on() -> None:
    data = pictures()
    more = with_transfer(data, blends(data, 7, 0))
    assert len(more.examples) == len(data.examples) + 7
    assert more.split.train.tolist() == [*data.split.train.tolist(), *range(12, 19)]
    np.testing.assert_array_equal(more.split.validation, data.split.validation)
    np.testing.assert_array_equal(more.examples.inputs[:12], data.examples.inputs)


def test_whole_numbers_stay_whole_and_are_rounded() -> None:
    data = pictures("uint8")
    more = with_transfer(data, np.full((1, 1, 2, 2), 7.6, dtype=np.float32))
    assert more.examples.inputs.dtype == np.uint8
    assert more.examples.inputs[-1].tolist() == [[[8, 8], [8, 8]]]


def test_validation_examples_join_those_for_training() -> None:
    data = pictures()
    assert with_validation(data).split.train.tolist() == list(range(8))
    assert with_validation(data).split.validation.tolist() == data.split.validation.tolist()
