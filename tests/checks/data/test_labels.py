"""R04: flipped labels, and classes that overlap honestly."""

import dataclasses

import numpy as np
import pytest

from search.checks.check import Found
from search.checks.data.labels import CHECK, EVIDENCE, PLAIN
from search.checks.evidence import Pictures, Sheet
from search.records import CheckVerdict
from search.train.data.arrays import Dataset, Examples
from tests.checks.data.looks import found
from tests.kits.zoo import digits, divided, some_of, table


def flipped(dataset: Dataset, share: float, seed: int = 0) -> tuple[Dataset, set[int]]:
    """Give a share of the labels of train and validation another class."""
    generator = np.random.default_rng(seed)
    known = np.concatenate([dataset.split.train, dataset.split.validation])
    chosen = generator.choice(known, round(share * len(known)), replace=False)
    targets, number = dataset.examples.targets.copy(), dataset.examples.num_outputs
    targets[chosen] = (targets[chosen] + generator.integers(1, number, len(chosen))) % number
    return Dataset(examples=dataclasses.replace(dataset.examples, targets=targets), split=dataset.split), {*chosen}


def clouds(seed: int, apart: float) -> Examples:
    """Return two normal classes, so many deviations apart."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 2, 500)
    inputs = generator.normal(size=(500, 5))
    inputs[:, 0] += apart * targets
    return Examples(
        name="clouds",
        inputs=inputs.astype(np.float32),
        targets=targets,
        task="classification",
        classes=("low", "high"),
    )


def suspects(look: Found) -> Sheet:
    sheet = look.evidence[0]
    assert isinstance(sheet, Sheet)
    return sheet


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes"])
def test_real_tables_pass(name):
    assert all(found(CHECK, divided(table(name, s), s), seed=s).verdict is CheckVerdict.PASS for s in range(3))


@pytest.mark.parametrize("apart", [1.5, 2.5, 4.0])
def test_classes_that_overlap_honestly_pass(apart):
    assert all(found(CHECK, divided(clouds(s, apart), s), seed=s).verdict is CheckVerdict.PASS for s in range(3))


def test_classes_that_no_hyperplane_divides_pass():
    examples = clouds(0, 0.0)
    targets = ((examples.inputs[:, 0] > 0) ^ (examples.inputs[:, 1] > 0)).astype(np.int64)
    assert found(CHECK, divided(dataclasses.replace(examples, targets=targets), 0)).verdict is CheckVerdict.PASS


@pytest.mark.parametrize("name", ["digits", "wine", "breast_cancer"])
@pytest.mark.parametrize("share", [0.05, 0.2])
def test_flipped_labels_are_a_warning_and_first_in_the_list(name, share):
    healthy = divided(digits(4) if name == "digits" else table(name, 4), 4)
    dataset, chosen = flipped(healthy, share, 4)
    look = found(CHECK, dataset)
    assert look.verdict is CheckVerdict.WARN
    top = {row[1] for row in suspects(look).rows[: len(chosen)]}
    assert len(top & chosen) >= 0.7 * len(chosen)


def test_the_worst_are_shown_and_none_of_the_test_split():
    dataset, _ = flipped(divided(digits(0), 0), 0.05)
    look = found(CHECK, dataset)
    seen = look.evidence[1]
    assert isinstance(seen, Pictures)
    assert len(seen.inputs) == len(seen.captions) == min(24, max(9, look.measured["contradicted"]))
    assert {row[2] for row in suspects(look).rows} <= {"train", "validation"}


def test_labels_of_the_test_split_change_nothing():
    dataset, _ = flipped(divided(digits(0), 0), 0.05)
    targets = dataset.examples.targets.copy()
    targets[dataset.split.test] = 0
    other = Dataset(examples=dataclasses.replace(dataset.examples, targets=targets), split=dataset.split)
    assert found(CHECK, other).measured == found(CHECK, dataset).measured


def test_targets_with_a_slipped_decimal_point_are_found():
    dataset = divided(table("diabetes", 0), 0)
    slipped = dataset.split.train[:10]
    targets = dataset.examples.targets.copy()
    targets[slipped] *= 100
    look = found(CHECK, Dataset(examples=dataclasses.replace(dataset.examples, targets=targets), split=dataset.split))
    assert look.verdict is CheckVerdict.WARN
    assert {row[1] for row in suspects(look).rows[:10]} == set(slipped.tolist())


def test_few_labels_are_not_judged():
    look = found(CHECK, divided(digits(0, 40), 0))
    assert look.verdict is CheckVerdict.SKIP
    assert "too few" in look.sentence


def test_of_many_labels_a_sample_is_judged_and_few_pictures_are_shown():
    look = found(CHECK, divided(digits(0, 1000), 0), examples=500)
    assert look.verdict is CheckVerdict.PASS
    assert "labels in a sample" in look.sentence
    seen = look.evidence[1]
    assert isinstance(seen, Pictures)
    assert len(seen.inputs) == 9


def test_hundreds_of_classes_are_judged():
    generator = np.random.default_rng(0)
    targets = np.arange(1600) % 200
    centres = 3 * generator.normal(size=(200, 20))
    examples = Examples(
        name="many",
        inputs=(centres[targets] + generator.normal(size=(1600, 20))).astype(np.float32),
        targets=targets,
        task="classification",
        classes=tuple(map(str, range(200))),
    )
    assert found(CHECK, divided(examples, 0)).verdict is CheckVerdict.PASS


def test_a_class_that_was_partly_taken_for_another_warns():
    examples = some_of(digits(0, 1797), 0, 1797)
    few = np.flatnonzero(examples.targets < 5)
    targets = examples.targets[few]
    targets[np.flatnonzero(targets == 3)[::5]] = 0
    mixed = dataclasses.replace(examples, inputs=examples.inputs[few], targets=targets)
    look = found(CHECK, divided(mixed, 0))
    assert look.verdict is CheckVerdict.WARN
    assert look.measured["contradicted_share"] < PLAIN
    assert look.measured["noise_evidence"] < EVIDENCE
