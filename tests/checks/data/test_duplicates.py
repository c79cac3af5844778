"""R01: copies within and across splits, and tables that have honest ones."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from search.checks import evidence
from search.checks.data.duplicates import CHECK
from search.checks.evidence import Pictures, Sheet
from search.records import CheckVerdict
from search.train.data.arrays import Dataset, Examples
from tests.checks.data.looks import found
from tests.kits.zoo import digits, divided, table


def copied(dataset: Dataset, number: int, noise: float = 0.0, source: str = "train", part: str = "test") -> Dataset:
    """Put copies of examples of one split in the place of others; noise is a share of the deviation."""
    generator = np.random.default_rng(0)
    examples = dataset.examples
    inputs, targets = examples.inputs.astype(np.float32), examples.targets.copy()
    origin = generator.choice(dataset.split.of(source), number, replace=False)
    place = generator.choice(np.setdiff1d(dataset.split.of(part), origin), number, replace=False)
    inputs[place] = inputs[origin] + noise * inputs.std() * generator.normal(size=inputs[origin].shape)
    targets[place] = targets[origin]
    return Dataset(examples=dataclasses.replace(examples, inputs=inputs, targets=targets), split=dataset.split)


def coarse(seed: int, features: int, values: int, number: int = 400) -> Examples:
    """Return a table of answers to questions, which agree with each other to some degree."""
    generator = np.random.default_rng(seed)
    mood = generator.normal(size=(number, 1))
    answers = 0.7 * mood + 0.7 * generator.normal(size=(number, features))
    return Examples(
        name="answers",
        inputs=np.digitize(answers, np.linspace(-1, 1, values - 1)).astype(np.float32),
        targets=(mood[:, 0] > 0).astype(np.int64),
        task="classification",
        classes=("no", "yes"),
    )


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes"])
def test_real_tables_pass_though_iris_has_a_pair(name):
    look = found(CHECK, divided(table(name, 0), 0))
    assert look.verdict is CheckVerdict.PASS
    assert look.measured["exact"] == (name == "iris")
    assert look.measured["near"] == 0


@pytest.mark.parametrize(("features", "values"), [(5, 3), (8, 2), (12, 5), (2, 12)])
def test_a_table_of_few_values_has_honest_copies(features, values):
    for seed in range(3):
        assert found(CHECK, divided(coarse(seed, features, values), seed)).verdict is CheckVerdict.PASS


def test_one_hot_columns_of_words_have_honest_copies():
    generator = np.random.default_rng(0)
    words = [np.eye(k, dtype=np.float32)[generator.integers(0, k, 300)] for k in (3, 4, 5)]
    examples = dataclasses.replace(coarse(0, 2, 2, 300), inputs=np.concatenate(words, axis=1))
    assert found(CHECK, divided(examples, 0)).verdict is CheckVerdict.PASS


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
def test_a_tenth_of_the_test_split_seen_in_training_fails(name, noise):
    dataset = divided(digits(0) if name == "digits" else table(name, 0), 0)
    if name == "breast_cancer":
        scaled = dataset.examples.inputs / dataset.examples.inputs.std(axis=0)
        dataset = Dataset(examples=dataclasses.replace(dataset.examples, inputs=scaled), split=dataset.split)
    look = found(CHECK, copied(dataset, 10, noise))
    assert look.verdict is CheckVerdict.FAIL
    assert look.measured["near" if noise else "exact"] == 10
    assert look.measured["leaked_test_share"] == pytest.approx(0.1)
    assert "10.0% of the test split" in look.sentence


def test_validation_counts_as_test_does_and_a_few_copies_are_a_warning():
    dataset = divided(digits(1), 1)
    assert found(CHECK, copied(dataset, 20, part="validation")).verdict is CheckVerdict.FAIL
    assert found(CHECK, copied(dataset, 3)).verdict is CheckVerdict.WARN
    assert found(CHECK, copied(dataset, 1)).verdict is CheckVerdict.PASS


def test_copies_with_other_targets_within_training_are_counted():
    dataset = copied(divided(digits(2), 2), 10, part="train")
    clean = found(CHECK, dataset)
    assert (clean.verdict, clean.measured["conflicting"]) == (CheckVerdict.WARN, 0)
    targets = dataset.examples.targets.copy()
    copies = next(piece for piece in clean.evidence if isinstance(piece, Sheet))
    changed = np.array([row[1] for row in copies.rows[:4]], dtype=np.int64)
    targets[changed] = (targets[changed] + 1) % 10
    other = Dataset(examples=dataclasses.replace(dataset.examples, targets=targets), split=dataset.split)
    assert found(CHECK, other).measured["conflicting"] == 4


def test_the_pairs_are_shown_side_by_side_and_test_targets_are_not(tmp_path: Path):
    look = found(CHECK, copied(divided(digits(0), 0), 10))
    sheet, seen = look.evidence
    assert isinstance(sheet, Sheet)
    assert isinstance(seen, Pictures)
    assert len(sheet.rows) == 10
    assert {(row[2], row[3], row[5]) for row in sheet.rows} == {("test", "", "train")}
    np.testing.assert_array_equal(seen.inputs[0::2], seen.inputs[1::2])
    assert {evidence.save(piece, tmp_path, "R01") for piece in look.evidence} == {"R01-pairs.csv", "R01-pairs.npz"}


def test_a_sample_is_compared_where_all_are_too_many():
    look = found(CHECK, copied(divided(digits(0, 1797), 0), 100, 0.01), examples=900)
    assert look.measured["compared"] < 1797
    assert "among a sample of" in look.sentence
    assert look.verdict is CheckVerdict.FAIL


def of(inputs: np.ndarray) -> Dataset:
    targets = np.arange(len(inputs)) % 2
    return divided(dataclasses.replace(coarse(0, 2, 2, len(inputs)), inputs=inputs, targets=targets), 0)


def words(generator: np.random.Generator, number: int, *sizes: int) -> np.ndarray:
    return np.concatenate([np.eye(k, dtype=np.float32)[generator.integers(0, k, number)] for k in sizes], axis=1)


@pytest.mark.parametrize("sizes", [(15, 15, 15), (4,) * 6])
def test_rows_of_the_same_words_are_not_near_copies(sizes):
    generator = np.random.default_rng(0)
    inputs = np.concatenate([words(generator, 2000, *sizes), generator.normal(size=(2000, 1))], axis=1)
    assert found(CHECK, of(inputs.astype(np.float32))).verdict is CheckVerdict.PASS


def demand(generator: np.random.Generator) -> np.ndarray:
    return ((generator.random((2000, 1, 12)) < 0.15) * generator.poisson(1.5, (2000, 1, 12))).astype(np.float32)


def bases(generator: np.random.Generator) -> np.ndarray:
    return np.eye(4, dtype=np.float32)[generator.integers(0, 4, (2000, 5))].swapaxes(1, 2)


def flags(generator: np.random.Generator) -> np.ndarray:
    return (generator.random((2000, 60)) < 0.02).astype(np.float32)


def sparse(generator: np.random.Generator) -> np.ndarray:
    return (generator.random((2000, 1, 8, 8)) < 0.02).astype(np.uint8)


@pytest.mark.parametrize("make", [demand, bases, flags, sparse, lambda g: words(g, 2000, 15, 15, 15)])
def test_inputs_of_few_values_that_repeat_in_every_split_do_not_fail(make):
    for seed in range(2):
        assert found(CHECK, of(make(np.random.default_rng(seed)))).verdict is not CheckVerdict.FAIL


def test_inputs_of_few_values_that_repeat_across_splits_alone_fail():
    generator = np.random.default_rng(0)
    dataset = of((generator.random((500, 1, 8, 8)) < 0.3).astype(np.uint8))
    assert found(CHECK, copied(dataset, 15)).verdict is CheckVerdict.FAIL


def test_empty_inputs_are_left_to_another_row():
    inputs = digits(0).inputs.copy()
    inputs[::4] = 0
    look = found(CHECK, of(inputs))
    assert (look.verdict, look.measured["exact"]) == (CheckVerdict.PASS, 0)
