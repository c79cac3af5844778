import dataclasses

import numpy as np
import pytest
import torch

from search.checks.bench import Bench
from search.checks.data.balance import look
from search.checks.evidence import Bars, Sheet
from search.records import CheckVerdict
from search.train.data.arrays import Dataset, Examples, Split
from tests.kits import zoo


def bench_of(examples, split=None, seed=0):
    dataset = Dataset(examples=examples, split=split) if split else zoo.divided(examples, seed)
    return Bench(
        dataset=dataset,
        config=zoo.config(),
        settings=zoo.INSPECT_SETTINGS,
        device=torch.device("cpu"),
        seed=seed,
    )


def without(examples, c, kept):
    """Return the examples with so many of class c alone."""
    of_class = np.flatnonzero(examples.targets == c)
    left = np.setdiff1d(np.arange(len(examples)), of_class[kept:])
    return dataclasses.replace(examples, inputs=examples.inputs[left], targets=examples.targets[left])


def told(found, verdict, words):
    assert found.verdict == verdict
    assert words in found.sentence
    assert found.advice


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["digits", "iris", "breast_cancer", "diabetes"])
def test_healthy_data_passes(name, seed):
    found = look(bench_of(zoo.digits(seed) if name == "digits" else zoo.table(name, seed), seed=seed))

    assert found.verdict is CheckVerdict.PASS, found.sentence


def test_counts_of_every_part_and_the_majoritys_accuracy_are_shown():
    bench = bench_of(zoo.digits(0))

    found = look(bench)

    bars, sheet = found.evidence
    assert isinstance(bars, Bars)
    assert isinstance(sheet, Sheet)
    assert {part: int(counts.sum()) for part, counts in bars.bars.items()} == {
        "train": 300,
        "validation": 100,
        "test": 100,
    }
    assert len(sheet.rows) == 10
    majority = int(np.argmax(bars.bars["train"]))
    accuracy = np.mean(bench.examples.targets[bench.split.validation] == majority)
    assert found.measured["majority_accuracy"] == pytest.approx(accuracy)
    assert f"{accuracy:.3f}" in found.sentence


def test_a_class_without_training_examples_fails():
    whole = bench_of(zoo.digits(0))
    fours = whole.split.train[whole.examples.targets[whole.split.train] == 4]
    split = Split(
        train=np.setdiff1d(whole.split.train, fours),
        validation=np.union1d(whole.split.validation, fours),
        test=whole.split.test,
    )

    told(look(bench_of(whole.examples, split)), "fail", "no training example of class 4")


def test_rare_classes_of_a_long_tail_may_miss_training():
    number = 100
    counts = np.maximum(1, (600 / np.arange(1, number + 1)).astype(np.int64))
    examples = Examples(
        name="tail",
        inputs=np.random.default_rng(0).normal(size=(counts.sum(), 2)),
        targets=np.repeat(np.arange(number), counts),
        task="classification",
        classes=tuple(map(str, range(number))),
    )
    whole = bench_of(examples)
    of_rare = np.isin(examples.targets, [98, 99])
    split = Split(
        train=whole.split.train[~of_rare[whole.split.train]],
        validation=np.union1d(whole.split.validation, whole.split.train[of_rare[whole.split.train]]),
        test=whole.split.test,
    )

    told(look(bench_of(examples, split)), "warn", "no training example of class 98")


def test_few_of_a_class_are_a_warning():
    told(look(bench_of(without(zoo.digits(0), 3, 3))), "warn", "fewer than 5 training examples of class 3 (2)")


def test_imbalance_is_a_warning():
    few = without(zoo.table("breast_cancer", 0), 0, 12)

    told(look(bench_of(few)), "warn", "times as many examples as the rarest")


def test_parts_with_other_shares_are_a_warning():
    digits = zoo.digits(0)
    order = np.argsort(digits.targets + np.random.default_rng(0).normal(size=500) * 4, kind="stable")
    split = Split(train=np.sort(order[:300]), validation=np.sort(order[300:400]), test=np.sort(order[400:]))

    told(look(bench_of(digits, split)), "warn", "the parts differ in their shares of the classes")


def test_very_few_examples_are_a_warning():
    told(look(bench_of(zoo.some_of(zoo.table("diabetes", 0), 0, 40))), "warn", "only 24 training examples")


def test_nothing_to_learn_fails():
    digits, diabetes = zoo.digits(0), zoo.table("diabetes", 0)
    one_class = dataclasses.replace(digits, targets=np.zeros_like(digits.targets))
    one_number = dataclasses.replace(diabetes, targets=np.full_like(diabetes.targets, 3))

    told(look(bench_of(one_class)), "fail", "all 300 training examples are of class 0")
    told(look(bench_of(one_number)), "fail", "all 266 training targets are 3")


def test_a_regressions_parts_with_other_targets_are_a_warning():
    diabetes = zoo.table("diabetes", 0)
    order = np.argsort(diabetes.targets, kind="stable")
    split = Split(train=np.sort(order[:260]), validation=np.sort(order[260:350]), test=np.sort(order[350:]))

    told(look(bench_of(diabetes, split)), "warn", "targets of train and validation are distributed differently")


def test_test_targets_of_a_regression_are_not_looked_at():
    diabetes = zoo.table("diabetes", 0)
    bench = bench_of(diabetes)
    targets = diabetes.targets.copy()
    targets[bench.split.test] = 1e6

    changed = look(bench_of(dataclasses.replace(diabetes, targets=targets), bench.split))

    assert changed.sentence == look(bench).sentence
    assert changed.measured == look(bench).measured
