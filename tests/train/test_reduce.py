from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from search.errors import UsageError
from search.train.data.arrays import Array, Dataset, Examples, Split
from search.train.reduce import Reduction, reduction_of

NUMBER = 120
SPLIT = Split(train=np.arange(80), validation=np.arange(80, 100), test=np.arange(100, 120))
GENERATOR = np.random.default_rng(0)
CLASSES = np.arange(NUMBER) % 3


def dataset(inputs: Array, *, numbers: bool = False) -> Dataset:
    targets = CLASSES.astype(np.float32) if numbers else CLASSES
    task, classes = ("regression", ()) if numbers else ("classification", ("a", "b", "c"))
    examples = Examples(name="made", inputs=inputs, targets=targets, task=task, classes=classes)  # type: ignore[arg-type]
    return Dataset(examples=examples, split=SPLIT)


def rows() -> Array:
    """Five features, of which 1 and 4 depend on the class, 4 the more; feature 2 is always the same."""
    made = GENERATOR.normal(size=(NUMBER, 5)).astype(np.float32)
    made[:, 1] += CLASSES
    made[:, 4] += 3 * CLASSES
    made[:, 2] = 7.0
    return made


def reduction(node: dict[str, Any] | None, data: Dataset) -> Reduction | None:
    channels = data.examples.inputs.shape[1]
    return reduction_of(node, data, torch.zeros(channels), torch.ones(channels))


def reduced(node: dict[str, Any], data: Dataset) -> Tensor:
    found = reduction(node, data)
    assert found is not None
    outputs: Tensor = found(torch.as_tensor(data.examples.inputs))
    assert tuple(outputs.shape[1:]) == found.shape
    return outputs


PICTURES = dataset(GENERATOR.normal(size=(NUMBER, 3, 8, 12)).astype(np.float32))
SERIES = dataset(GENERATOR.normal(size=(NUMBER, 2, 40)).astype(np.float32))
TABLE = dataset(rows())


@pytest.mark.parametrize(
    ("node", "data"),
    [
        (None, PICTURES),
        ({"resolution": None, "features": None}, PICTURES),
        ({"resolution": 40, "features": None}, SERIES),
        ({"resolution": 8}, dataset(PICTURES.examples.inputs[:, :, :, :8])),
        ({"features": 5}, TABLE),
    ],
    ids=["no node", "nulls", "the length they have", "the sides they have", "all features"],
)
def test_where_nothing_is_to_become_smaller_there_is_no_reduction(node: dict[str, Any] | None, data: Dataset) -> None:
    assert reduction(node, data) is None


def test_smaller_pictures_are_means_of_areas() -> None:
    inputs = torch.as_tensor(PICTURES.examples.inputs)
    expected = inputs.reshape(NUMBER, 3, 4, 2, 4, 3).mean((3, 5))
    torch.testing.assert_close(reduced({"resolution": 4}, PICTURES), expected)


def test_larger_pictures_are_interpolated() -> None:
    inputs = torch.as_tensor(PICTURES.examples.inputs)
    expected = functional.interpolate(inputs, (16, 16), mode="bilinear")
    assert torch.equal(reduced({"resolution": 16}, PICTURES), expected)


def test_what_becomes_smaller_on_one_side_alone_loses_no_point() -> None:
    inputs = torch.zeros(NUMBER, 1, 8, 80)
    inputs[:, :, :, ::4] = 1.0  # every fourth column: points between the places of an interpolation
    outputs = reduced({"resolution": 10}, dataset(inputs.numpy()))
    torch.testing.assert_close(outputs, torch.full((NUMBER, 1, 10, 10), 0.25))


@pytest.mark.parametrize("length", [10, 7, 55])
def test_series_get_their_length(length: int) -> None:
    outputs = reduced({"resolution": length}, SERIES)
    assert outputs.shape == (NUMBER, 2, length)
    if length == 10:
        expected = torch.as_tensor(SERIES.examples.inputs).reshape(NUMBER, 2, 10, 4).mean(3)
        torch.testing.assert_close(outputs, expected)


@pytest.mark.parametrize("numbers", [False, True], ids=["classes", "numbers"])
@pytest.mark.parametrize(("number", "expected"), [(1, [4]), (2, [1, 4])])
def test_the_features_that_tell_most_are_kept_in_their_order(number: int, expected: list[int], numbers: bool) -> None:
    data = dataset(TABLE.examples.inputs, numbers=numbers)
    assert torch.equal(reduced({"features": number}, data), torch.as_tensor(data.examples.inputs[:, expected]))


def test_a_feature_that_is_always_the_same_comes_last() -> None:
    found = reduction({"features": 4}, TABLE)
    assert found is not None
    assert found.state_dict()["features"].tolist() == [0, 1, 3, 4]


def test_only_the_training_split_says_what_a_feature_tells() -> None:
    inputs = TABLE.examples.inputs.copy()
    inputs[80:] = 0.0
    inputs[80:, 0] = 1000.0 * CLASSES[80:]
    assert torch.equal(reduced({"features": 2}, dataset(inputs)), torch.as_tensor(inputs[:, [1, 4]]))


def test_missing_values_count_as_the_mean() -> None:
    inputs = TABLE.examples.inputs.copy()
    inputs[::7, 4] = np.nan
    found = reduction({"features": 1}, dataset(inputs))
    assert found is not None
    assert found.state_dict()["features"].tolist() == [4]


def test_a_column_of_words_is_kept_as_a_whole_or_not_at_all() -> None:
    """Columns: a number that tells little, three words of which two tell most, a word that is always the same."""
    words = np.eye(3, dtype=np.float32)[np.where(CLASSES < 2, CLASSES, np.arange(NUMBER) % 2 * 2)]
    noise = GENERATOR.normal(size=(NUMBER, 1)).astype(np.float32)
    telling = noise + CLASSES[:, None]
    inputs = np.concatenate([noise, words, telling, np.ones((NUMBER, 1))], axis=1, dtype=np.float32)
    columns = [["noise", None], ["word", ["a", "b", "c"]], ["empty", []], ["number", None], ["same", ["a"]]]
    data = dataset(inputs)
    data = dataclasses.replace(data, examples=dataclasses.replace(data.examples, table={"columns": columns}))
    kept = {}
    for number in (1, 2, 3):
        found = reduction({"features": number}, data)
        assert found is not None
        kept[number] = found.state_dict()["features"].tolist()
        assert found.shape == (len(kept[number]),)
    assert kept == {1: [1, 2, 3], 2: [1, 2, 3, 4], 3: [0, 1, 2, 3, 4]}
    assert reduction({"features": 4}, data) is None
    with pytest.raises(UsageError, match=r"^inputs\.features=5: must be a whole number, 1 to 4, the table's columns$"):
        reduction({"features": 5}, data)


REFUSED: dict[str, tuple[dict[str, Any], Dataset, str]] = {
    "the resolution of a table": ({"resolution": 4}, TABLE, "inputs.resolution=4: is for pictures and series"),
    "the features of pictures": ({"features": 4}, PICTURES, "inputs.features=4: is for tables, not for a picture"),
    "no resolution": ({"resolution": 0}, PICTURES, "inputs.resolution=0: must be a whole number, at least 1"),
    "half a feature": ({"features": 1.5}, TABLE, "inputs.features=1.5: must be a whole number, 1 to 5"),
    "too many features": ({"features": 6}, TABLE, "inputs.features=6: must be a whole number, 1 to 5"),
}


@pytest.mark.parametrize(("node", "data", "message"), REFUSED.values(), ids=REFUSED)
def test_what_the_data_does_not_have_is_refused(node: dict[str, Any], data: Dataset, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        reduction(node, data)
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize(
    ("node", "data"), [({"resolution": 5}, PICTURES), ({"resolution": 7}, SERIES), ({"features": 2}, TABLE)]
)
def test_it_can_be_packaged_for_batches_of_any_size(node: dict[str, Any], data: Dataset) -> None:
    found = reduction(node, data)
    assert found is not None
    inputs = torch.as_tensor(data.examples.inputs)
    program = torch.export.export(found, (inputs[:4],), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    torch.testing.assert_close(program.module()(inputs[:1]), found(inputs[:1]))
