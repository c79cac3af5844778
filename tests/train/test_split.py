from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.errors import UsageError
from search.train.data.arrays import Examples, Split
from search.train.data.split import divide

PARTS = ("train", "validation", "test")


def examples(
    size: int, *, num_classes: int = 0, test: Any = None, columns: dict[str, Any] | None = None, seed: int = 0
) -> Examples:
    generator = np.random.default_rng(seed)
    shares = np.arange(1, num_classes + 1) / sum(range(1, num_classes + 1))
    return Examples(
        name="made",
        inputs=np.zeros((size, 1), dtype=np.float32),
        targets=generator.choice(num_classes, size, p=shares) if num_classes else generator.normal(size=size),
        task="classification" if num_classes else "regression",
        classes=tuple(map(str, range(num_classes))),
        test=test,
        columns=columns or {},
    )


def config(**changes: Any) -> dict[str, Any]:
    return {"fractions": [0.6, 0.2, 0.2], "stratify": True, "seed": 0, "group": None, "time": None, **changes}


def assert_disjoint_and_complete(split: Split, size: int) -> None:
    parts = [split.of(part) for part in PARTS]
    assert sorted(np.concatenate(parts).tolist()) == list(range(size))
    assert all(part.dtype == np.int64 for part in parts)


@given(
    size=st.integers(10, 400),
    shares=st.tuples(*[st.integers(1, 8)] * 3),
    num_classes=st.sampled_from([0, 2, 7]),
    stratify=st.booleans(),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, derandomize=True)
def test_sizes_are_exact_and_parts_disjoint_and_complete(
    size: int, shares: tuple[int, int, int], num_classes: int, stratify: bool, seed: int
) -> None:
    fractions = [share / sum(shares) for share in shares]
    split = divide(examples(size, num_classes=num_classes), config(fractions=fractions, stratify=stratify, seed=seed))
    assert_disjoint_and_complete(split, size)
    num_test = round(fractions[2] * size)
    num_validation = round(fractions[1] / (fractions[0] + fractions[1]) * (size - num_test))
    assert [len(split.of(part)) for part in PARTS] == [size - num_test - num_validation, num_validation, num_test]


@pytest.mark.parametrize("seed", range(3))
def test_each_class_has_the_same_share_of_each_part(seed: int) -> None:
    data = examples(501, num_classes=4)
    split = divide(data, config(seed=seed))
    for part in PARTS:
        indices = split.of(part)
        shares = np.bincount(data.targets, minlength=4) * len(indices) / len(data)
        # two cuts, each rounding a class by less than one example
        assert np.abs(np.bincount(data.targets[indices], minlength=4) - shares).max() < 2


def test_without_stratification_shares_vary() -> None:
    # so that the test above is known to see something: 200 of 1,000 examples, a third of them of the first class, have
    # a standard deviation of 6, so ten seeds within two examples have a probability of (0.26)**10
    data = examples(1000, num_classes=2)
    share = np.bincount(data.targets)[0] / 5
    splits = [divide(data, config(stratify=False, seed=seed)) for seed in range(10)]
    assert max(abs(np.bincount(data.targets[split.test])[0] - share) for split in splits) > 2


def test_regression_cannot_be_stratified_and_is_divided_at_random() -> None:
    assert_disjoint_and_complete(divide(examples(50), config(stratify=True)), 50)


@pytest.mark.parametrize("num_classes", [0, 3], ids=["regression", "classification"])
def test_the_same_seed_gives_the_same_parts_and_another_seed_others(num_classes: int) -> None:
    data = examples(200, num_classes=num_classes)
    one, again, other = (divide(data, config(seed=seed)) for seed in (1, 1, 2))
    for part in PARTS:
        assert one.of(part).tolist() == again.of(part).tolist()
        assert one.of(part).tolist() != other.of(part).tolist()


@pytest.mark.parametrize("stratify", [True, False])
def test_every_example_may_come_into_every_part(stratify: bool) -> None:
    data = examples(20, num_classes=2)
    for part in PARTS:
        seen = {int(i) for seed in range(60) for i in divide(data, config(stratify=stratify, seed=seed)).of(part)}
        # an example misses a part of a fifth in 60 seeds with a probability of 0.8**60, or 1.5e-6
        assert seen == set(range(20))


def test_a_test_set_of_its_own_is_kept_and_the_rest_shared() -> None:
    own = np.arange(70, 100)
    data = examples(100, num_classes=2, test=own)
    split = divide(data, config(fractions=[0.6, 0.2, 0.2]))
    assert split.test.tolist() == own.tolist()
    assert_disjoint_and_complete(split, 100)
    assert len(split.validation) == round(70 * 0.25)


def test_groups_stand_on_one_side() -> None:
    groups = np.random.default_rng(0).integers(0, 40, 400).astype(str)
    split = divide(examples(400, num_classes=3, columns={"who": groups}), config(group="who"))
    assert_disjoint_and_complete(split, 400)
    sides = [set(groups[split.of(part)]) for part in PARTS]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    # groups of about ten examples each: a part misses its size by one of them, cut twice
    assert [len(split.of(part)) for part in PARTS] == pytest.approx([240, 80, 80], abs=40)


def test_training_lies_in_the_past_of_validation_and_validation_in_that_of_test() -> None:
    times = np.random.default_rng(0).permutation(100) / 7
    split = divide(examples(100, num_classes=3, columns={"when": times}), config(time="when"))
    assert_disjoint_and_complete(split, 100)
    assert [len(split.of(part)) for part in PARTS] == [60, 20, 20]
    assert times[split.train].max() < times[split.validation].min()
    assert times[split.validation].max() < times[split.test].min()


MONTHS = (5, 3, 9, 1, 7, 2, 8, 4, 10, 6)


@pytest.mark.parametrize("form", ["2024-{:02d}-01", "{:02d}/15/2024"])
def test_words_are_ordered_as_dates(form: str) -> None:
    dates = np.array([form.format(month) for month in MONTHS], dtype=object)
    split = divide(examples(10, columns={"when": dates}), config(time="when"))
    assert sorted(dates[split.test]) == [form.format(9), form.format(10)]


@pytest.mark.parametrize("first", [0, 1], ids=["ambiguous first", "clear first"])
def test_dates_with_the_day_first_are_read_so_or_refused_but_never_mixed(first: int) -> None:
    # read one by one, 05/01 would be the first of May and 20/01 the twentieth of January
    dates = np.array(["05/01/2024", "20/01/2024", "06/02/2024", "20/02/2024", "07/03/2024", "25/03/2024"], dtype=object)
    column = np.roll(dates, -first)
    try:
        split = divide(examples(6, columns={"when": column}), config(time="when", fractions=[0.34, 0.33, 0.33]))
    except UsageError:
        return
    assert [set(column[split.of(part)]) for part in PARTS] == [set(dates[:2]), set(dates[2:4]), set(dates[4:])]


@given(
    times=st.lists(st.integers(0, 12), min_size=12, max_size=60).filter(lambda times: len(set(times)) > 6),
    share=st.floats(0.1, 0.3),
)
@settings(deadline=None, derandomize=True)
def test_one_moment_stands_on_one_side(times: list[int], share: float) -> None:
    column = np.array(times)
    try:
        split = divide(
            examples(len(times), columns={"when": column}),
            config(time="when", fractions=[1 - 2 * share, share, share]),
        )
    except UsageError:
        return  # most examples are of the last moments
    assert_disjoint_and_complete(split, len(times))
    assert column[split.train].max() < column[split.validation].min()
    assert column[split.validation].max() < column[split.test].min()
    assert len(split.test) >= round(share * len(times))


REFUSED: dict[str, tuple[Examples, dict[str, Any], str, str]] = {
    "nothing for test": (
        examples(4),
        {"fractions": [0.5, 0.4, 0.1]},
        "split.fractions=[0.5, 0.4, 0.1]",
        "no example left for test (4)",
    ),
    "nothing for validation": (
        examples(10),
        {"fractions": [0.98, 0.01, 0.01], "stratify": False},
        "split.fractions=[0.98, 0.01, 0.01]",
        "no example left for",
    ),
    "one group": (
        examples(10, columns={"who": np.zeros(10)}),
        {"group": "who"},
        "split.fractions=[0.6, 0.2, 0.2]",
        "no example left for train (10)",
    ),
    "an empty test set of its own": (examples(10, test=np.array([], dtype=int)), {}, "split.fractions", "for test"),
    "no such group": (examples(10, columns={"a": 0, "b": 0}), {"group": "c"}, "split.group=c", "allowed: a, b"),
    "no such time": (examples(10, columns={"a": 0, "b": 0}), {"time": "c"}, "split.time=c", "allowed: a, b"),
    "no columns": (examples(10), {"group": "c"}, "split.group=c", "this data has no columns"),
    "groups with gaps": (
        examples(4, columns={"who": np.array(["a", np.nan, "b", "c"], dtype=object)}),
        {"group": "who"},
        "split.group=who",
        "no value",
    ),
    "times with gaps": (
        examples(4, columns={"when": np.array(["2024", np.nan, "2025", "2026"], dtype=object)}),
        {"time": "when"},
        "split.time=when",
        "no value",
    ),
    "times that are no dates": (
        examples(4, columns={"when": np.array(["early", "later", "late", "latest"], dtype=object)}),
        {"time": "when"},
        "split.time=when",
        "not numbers and not dates",
    ),
    "times as numbers beside words": (
        examples(4, columns={"when": np.array([1, "later", 3, 4], dtype=object)}),
        {"time": "when"},
        "split.time=when",
        "not numbers and not dates",
    ),
    "one moment": (
        examples(10, columns={"when": np.ones(10)}),
        {"time": "when"},
        "split.fractions",
        "no example left for train (10)",
    ),
    "times with gaps, as numbers": (
        examples(4, columns={"when": np.array([1.0, np.nan, 2.0, 3.0])}),
        {"time": "when"},
        "split.time=when",
        "no value",
    ),
}


@pytest.mark.parametrize(("data", "changes", "key", "allowed"), REFUSED.values(), ids=REFUSED)
def test_a_division_that_cannot_be_is_refused(data: Examples, changes: dict[str, Any], key: str, allowed: str) -> None:
    with pytest.raises(UsageError) as refusal:
        divide(data, config(**changes))
    assert key in str(refusal.value)
    assert allowed in str(refusal.value)
