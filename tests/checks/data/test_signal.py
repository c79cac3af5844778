"""R08: inputs that say nothing of the targets, and such as only some models can read."""

import dataclasses

import numpy as np
import pytest

from search.checks.data.signal import CHECK
from search.checks.evidence import Bars, Sheet
from search.records import CheckVerdict
from search.train.data.arrays import Dataset, Examples
from tests.checks.data.looks import found
from tests.kits.zoo import digits, divided, some_of, table


def made(inputs: np.ndarray, targets: np.ndarray) -> Examples:
    return Examples(
        name="made",
        inputs=inputs.astype(np.float32),
        targets=targets.astype(np.int64),
        task="classification",
        classes=tuple(map(str, np.unique(targets))),
    )


def exclusive_or(seed: int) -> Examples:
    inputs = np.random.default_rng(seed).normal(size=(300, 4))
    return made(inputs, (inputs[:, 0] > 0) ^ (inputs[:, 1] > 0))


def tones(seed: int) -> Examples:
    """Return series of three frequencies whose phase says nothing."""
    generator = np.random.default_rng(seed)
    targets = np.arange(300) % 3
    phase, time = generator.uniform(0, 2 * np.pi, (300, 1)), np.linspace(0, 1, 64)
    series = np.sin(2 * np.pi * (6 + 3 * targets[:, None]) * time + phase) + generator.normal(size=(300, 64))
    return made(series[:, None], targets)


def shuffled(dataset: Dataset, seed: int = 0) -> Dataset:
    targets = np.random.default_rng(seed).permutation(dataset.examples.targets)
    return Dataset(examples=dataclasses.replace(dataset.examples, targets=targets), split=dataset.split)


@pytest.mark.parametrize(
    ("name", "number"),
    [("iris", 60), ("wine", 60), ("breast_cancer", 60), ("iris", 500), ("wine", 500), ("diabetes", 500)],
)
def test_real_tables_pass_also_when_they_are_small(name, number):
    dataset = divided(some_of(table(name, 0), 0, number), 0)
    look = found(CHECK, dataset)
    assert look.verdict is CheckVerdict.PASS
    assert look.measured["low"] > look.expected["score"]


@pytest.mark.parametrize("examples", [exclusive_or, tones])
def test_what_a_linear_model_cannot_read_passes(examples):
    look = found(CHECK, divided(examples(0), 0))
    assert look.verdict is CheckVerdict.PASS
    assert "linear" not in look.sentence


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes"])
def test_shuffled_targets_fail(name):
    dataset = divided(table(name, 0), 0)
    look = found(CHECK, shuffled(dataset))
    assert look.verdict is CheckVerdict.FAIL
    assert look.measured["low"] < look.expected["score"] < look.measured["score"] + 0.2
    assert "cannot be told from chance" in look.sentence


def test_too_few_examples_to_tell_are_a_warning():
    look = found(CHECK, shuffled(divided(some_of(table("breast_cancer", 0), 0, 60), 0)))
    assert look.verdict is CheckVerdict.WARN
    assert "too few examples to tell" in look.advice


def test_copies_are_no_signal():
    dataset = divided(table("breast_cancer", 0), 0)
    known = np.concatenate([dataset.split.train, dataset.split.validation])
    inputs, targets = dataset.examples.inputs.copy(), np.random.default_rng(0).permutation(dataset.examples.targets)
    half = len(known) // 2
    inputs[known[half : 2 * half]], targets[known[half : 2 * half]] = inputs[known[:half]], targets[known[:half]]
    copies = Dataset(
        examples=dataclasses.replace(dataset.examples, inputs=inputs, targets=targets), split=dataset.split
    )
    assert found(CHECK, copies).verdict is not CheckVerdict.PASS


def test_rare_classes_are_told_from_chance():
    generator = np.random.default_rng(0)
    targets = generator.random(500) < 0.06
    inputs = generator.normal(size=(500, 5))
    inputs[:, 0] += 2.5 * targets
    assert found(CHECK, divided(made(inputs, targets), 0)).verdict is CheckVerdict.PASS


def test_the_scores_are_shown_with_their_intervals():
    bars, sheet = found(CHECK, shuffled(divided(digits(0, 150), 0))).evidence
    assert isinstance(bars, Bars)
    assert isinstance(sheet, Sheet)
    assert [row[0] for row in sheet.rows] == ["linear", "neighbours", "trees", "trees of the spectrum"]
    assert bars.labels[0].startswith("linear, ")
    assert np.all(bars.bars["interval from"] < bars.bars["interval to"])


def test_one_class_alone_is_skipped():
    examples = digits(0)
    alone = dataclasses.replace(examples, targets=np.zeros_like(examples.targets))
    assert found(CHECK, divided(alone, 0)).verdict is CheckVerdict.SKIP


def with_column(examples: Examples, column: np.ndarray) -> Examples:
    inputs = np.column_stack([examples.inputs, column]).astype(np.float32)
    return dataclasses.replace(examples, inputs=inputs)


@pytest.mark.parametrize("name", ["diabetes", "breast_cancer"])
def test_a_column_that_was_made_from_the_target_is_named(name):
    examples = table(name, 0)
    noise = np.random.default_rng(0).normal(0, 0.01, len(examples))
    look = found(CHECK, divided(with_column(examples, 3 * examples.targets + noise), 0))
    assert look.verdict is CheckVerdict.WARN
    assert look.sentence.startswith(f"column {examples.inputs.shape[1]} alone predicts the target")


def test_a_constant_column_tells_nothing():
    examples = table("breast_cancer", 0)
    look = found(CHECK, divided(with_column(examples, np.ones(len(examples))), 0))
    assert look.verdict is CheckVerdict.PASS


@pytest.mark.parametrize(("classes", "number"), [(50, 500), (100, 1000)])
def test_noise_of_many_classes_is_no_signal(classes, number):
    generator = np.random.default_rng(0)
    examples = made(generator.normal(size=(number, 10)), generator.permutation(np.arange(number) % classes))
    assert found(CHECK, divided(examples, 0)).verdict is not CheckVerdict.PASS


def test_a_weak_signal_of_many_examples_passes_by_the_linear_model_on_all_of_them():
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 2, 30_000)
    inputs = generator.normal(size=(30_000, 5))
    inputs[:, 0] += 0.12 * targets
    look = found(CHECK, divided(made(inputs, targets), 0), examples=1500)
    assert look.verdict is CheckVerdict.PASS
    assert "the linear model" in look.sentence
    assert "24000 examples" in look.sentence


@pytest.mark.parametrize("examples", [1000, 10_000])
def test_no_signal_in_many_examples_is_a_warning(examples):
    generator = np.random.default_rng(1)
    data = made(generator.normal(size=(3000, 5)), generator.integers(0, 2, 3000))
    assert found(CHECK, divided(data, 0), examples=examples).verdict is CheckVerdict.WARN


def test_scores_under_chance_are_structure():
    pairs = np.stack(np.meshgrid(np.arange(23), np.arange(23)), axis=-1).reshape(-1, 2)
    inputs = np.concatenate([np.eye(23)[pairs[:, 0]], np.eye(23)[pairs[:, 1]]], axis=1)
    look = found(CHECK, divided(made(inputs, pairs.sum(axis=1) % 23), 0))
    assert look.verdict is CheckVerdict.WARN
    assert "worse than chance" in look.sentence


def test_one_of_many_independent_columns_is_seen():
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(1200, 200))
    targets = inputs[:, 7] + 1.5 * generator.normal(size=1200) > 0
    assert found(CHECK, divided(made(inputs, targets), 0)).verdict is CheckVerdict.PASS


def test_an_ordinary_column_of_a_rare_class_is_no_leak():
    generator = np.random.default_rng(0)
    targets = np.arange(6000) % 100 == 0
    inputs = generator.normal(size=(6000, 3)) + 0.7 * targets[:, None]
    examples = made(inputs, targets)
    assert found(CHECK, divided(examples, 0)).verdict is CheckVerdict.PASS
    look = found(CHECK, divided(with_column(examples, targets + generator.normal(0, 0.01, 6000)), 0))
    assert look.verdict is CheckVerdict.WARN


def test_a_leak_has_the_name_of_its_column():
    examples = with_column(table("breast_cancer", 0), table("breast_cancer", 0).targets * 2.0)
    names = [[f"c{i}", None] for i in range(30)] + [["leaked", None]]
    look = found(CHECK, divided(dataclasses.replace(examples, table={"columns": names}), 0))
    assert look.sentence.startswith("column 'leaked' alone predicts the target (score 1.0000)")


def test_a_word_that_leaks_has_the_name_of_its_column_and_itself():
    examples = table("breast_cancer", 0)
    words = np.eye(2)[examples.targets]
    inputs = np.concatenate([examples.inputs, words], axis=1).astype(np.float32)
    names = [*([f"c{i}", None] for i in range(30)), ["verdict", ["good", "bad"]]]
    look = found(CHECK, divided(dataclasses.replace(examples, inputs=inputs, table={"columns": names}), 0))
    assert look.verdict is CheckVerdict.WARN
    assert "column 'verdict=" in look.sentence
