import dataclasses

import numpy as np
import pytest
import torch

from search.checks.bench import Bench
from search.checks.data.corrupt import look
from search.checks.data.turned import readings
from search.checks.evidence import Pictures, Sheet
from search.records import CheckVerdict
from search.train.data.arrays import Dataset, Examples, Split
from tests.kits import zoo


def bench_of(examples, changed=lambda x, split, random: x, seed=0):
    dataset = zoo.divided(examples, seed)
    inputs = changed(dataset.examples.inputs.copy(), dataset.split, np.random.default_rng(seed))
    return Bench(
        dataset=Dataset(examples=dataclasses.replace(examples, inputs=inputs), split=dataset.split),
        config=zoo.config(),
        settings=zoo.INSPECT_SETTINGS,
        device=torch.device("cpu"),
        seed=seed,
    )


def replaced(where, value):
    """Put a value, or a function of the values there, at the indices that `where(x, split, random)` gives."""

    def change(x, split, random):
        if x.dtype == np.uint8:
            x = x.astype(np.float32)
        at = where(x, split, random)
        x[at] = value(x[at]) if callable(value) else value
        return x

    return change


def some(number):
    return lambda x, split, random: random.choice(len(x), number, replace=False)


def part(name, *rest):
    return lambda x, split, random: (split.of(name), *rest)


def transposed(x):
    return x.swapaxes(2, 3)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["digits", "wine", "diabetes"])
def test_healthy_data_passes_with_constant_border_pixels_too(name, seed):
    examples = zoo.digits(seed) if name == "digits" else zoo.table(name, seed)

    found = look(bench_of(examples, seed=seed))

    assert found.verdict is CheckVerdict.PASS, found.sentence
    assert found.measured["offenders"] == 0


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        (replaced(some(3), np.nan), "warn", "3 of 500 examples have missing values"),
        (replaced(some(40), np.nan), "fail", "40 of 500 examples have missing values"),
        (replaced(lambda *_: (7, 0, 1, 1), np.inf), "fail", "1 examples have infinite values"),
        (replaced(some(2), 0), "warn", "2 of 500 examples are constant, 2 of them all zero"),
        (replaced(some(100), 3), "fail", "100 of 500 examples are constant, 0 of them all zero"),
        (replaced(some(50), lambda x: x / 16), "fail", "50 of 500 examples are on another scale"),
        (replaced(some(10), lambda x: x / 255), "warn", "10 of 500 examples are on another scale"),
        (replaced(some(1), lambda x: x * 1e5), "fail", "1 of 500 examples are on another scale"),
        (replaced(part("test"), lambda x: x * 255), "fail", "100 of 500 examples are on another scale"),
        (replaced(part("validation"), transposed), "fail", "validation look like those of train with height and width"),
        (lambda x, *_: x.astype(object), "fail", "inputs are of type object"),
        (lambda x, *_: (x * 15).view(np.int8), "warn", "grey values above 127 do not fit"),
    ],
)
def test_corrupt_pictures_are_found(change, verdict, words):
    found = look(bench_of(zoo.digits(0), change))

    assert found.verdict == verdict
    assert words in found.sentence
    assert found.advice


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        (replaced(part("validation", 3), lambda x: x * 1000), "fail", "another scale in validation than in train"),
        (replaced(part("test", 3), lambda x: x * 10), "warn", "another scale in test than in train"),
        (replaced(lambda x, s, r: (r.random(len(x)) < 0.7, 2), np.nan), "warn", "missing in more than 50%"),
        (replaced(part("test", 2), np.nan), "warn", "missing in another share of the rows of test"),
        (replaced(lambda *_: (slice(None), 2), 7), "warn", "1 of 13 columns (2) are constant in training"),
        (replaced(lambda *_: slice(None), 7), "fail", "13 of 13 columns"),
        (replaced(some(4), 0), "warn", "4 of 178 rows hold one number throughout"),
        (replaced(some(4), np.nan), "warn", "4 of 178 rows have no value at all"),
        (replaced(lambda *_: (slice(3, 40), 2), -999), "warn", "2: -999"),
        (replaced(lambda *_: (3, 2), np.inf), "fail", "infinite"),
    ],
)
def test_corrupt_tables_are_found(change, verdict, words):
    found = look(bench_of(zoo.table("wine", 0), change))

    assert found.verdict == verdict
    assert words in found.sentence


def test_few_missing_values_of_a_table_are_said_and_pass():
    found = look(bench_of(zoo.table("wine", 0), replaced(lambda x, s, r: r.random(x.shape) < 0.05, np.nan)))

    assert found.verdict is CheckVerdict.PASS
    assert "% of the values missing" in found.sentence
    assert 0.03 < found.measured["missing_values"] < 0.07


def test_each_offender_is_in_the_sheet_with_its_part_and_the_first_are_shown():
    found = look(bench_of(zoo.digits(0), replaced(lambda *_: [4, 17], 0)))

    sheet, pictures = found.evidence
    assert isinstance(sheet, Sheet)
    assert isinstance(pictures, Pictures)
    assert [row[0] for row in sheet.rows] == [4, 17]
    assert {row[1] for row in sheet.rows} <= {"train", "validation", "test"}
    assert pictures.inputs.shape == (2, 1, 8, 8)


def test_a_scale_that_the_class_explains_is_no_fault():
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, 300)
    waves = random.normal(size=(300, 1, 40)) * np.where(targets == 1, 1, 100)[:, None, None]
    examples = Examples(name="waves", inputs=waves, targets=targets, task="classification", classes=("quiet", "loud"))

    assert look(bench_of(examples)).verdict is CheckVerdict.PASS

    mixed = dataclasses.replace(examples, targets=random.permutation(targets))
    assert look(bench_of(mixed)).verdict is CheckVerdict.WARN


@pytest.mark.parametrize("back", [False, True])
def test_swapped_axes_of_pictures_that_are_not_square_are_found(back):
    digits = zoo.digits(0)
    narrow = dataclasses.replace(digits, inputs=digits.inputs[:, :, :, 1:7])

    def turn(x):
        return x.reshape(-1, 1, 6, 8).swapaxes(2, 3) if back else x.swapaxes(2, 3).reshape(x.shape)

    found = look(bench_of(narrow, replaced(part("test"), turn)))

    assert found.verdict is CheckVerdict.FAIL
    assert "inputs of test look like those of train with height and width swapped" in found.sentence


def test_readings_of_one_channel_are_only_those_that_differ():
    assert len(readings((1, 4, 4))) == 1
    assert len(readings((1, 4, 6))) == 2
    assert len(readings((3, 5))) == 2
    assert readings((7,)) == {}


def series(inputs, targets=None):
    targets = np.arange(len(inputs)) % 2 if targets is None else targets
    return Examples(name="series", inputs=inputs, targets=targets, task="classification", classes=("no", "yes"))


def test_missing_values_of_series_are_judged_by_channel():
    waves = np.random.default_rng(0).normal(size=(300, 3, 20))
    waves[:, 1][np.random.default_rng(1).random((300, 20)) < 0.3] = np.nan

    found = look(bench_of(series(waves)))

    assert found.verdict is CheckVerdict.PASS
    assert "10.0" in found.sentence or "9.9" in found.sentence

    waves[:200, 1] = np.nan

    found = look(bench_of(series(waves)))

    assert found.verdict is CheckVerdict.WARN
    assert "1 of 3 channels (1) are missing in more than 50% of the training values" in found.sentence


def test_series_that_are_often_empty_are_a_warning():
    random = np.random.default_rng(0)
    demand = (random.random((400, 1, 10)) < 0.1) * random.poisson(2, (400, 1, 10))

    found = look(bench_of(series(demand.astype(np.float32))))

    assert found.verdict is CheckVerdict.WARN
    assert "are constant" in found.sentence
    assert look(bench_of(series(np.zeros_like(demand)))).verdict is CheckVerdict.FAIL


def test_pictures_that_are_nearly_empty_may_be_empty():
    sparse = (np.random.default_rng(0).random((400, 1, 8, 8)) < 0.02).astype(np.uint8)

    assert look(bench_of(series(sparse))).verdict is CheckVerdict.WARN


def test_pictures_of_two_exposures_are_a_warning():
    assert look(bench_of(zoo.digits(0), replaced(some(100), lambda x: x / 100))).verdict is CheckVerdict.WARN


def test_a_column_that_grows_is_a_warning_where_the_split_is_by_time():
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 3))
    rows[:, 1] = np.exp(np.arange(400) / 20 + rows[:, 1])
    by_time = Split(train=np.arange(240), validation=np.arange(240, 320), test=np.arange(320, 400))
    bench = bench_of(series(rows))

    found = look(dataclasses.replace(bench, dataset=dataclasses.replace(bench.dataset, split=by_time)))

    assert found.verdict is CheckVerdict.WARN
    assert "another scale in validation than in train" in found.sentence
