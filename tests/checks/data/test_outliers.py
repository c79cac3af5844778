"""R07: examples and values far outside, heavy tails that are none, and the table of all examples."""

import dataclasses

import numpy as np
import pytest

from search.checks.data.outliers import CHECK
from search.checks.evidence import Curves, Pictures, Sheet
from search.records import CheckVerdict
from search.train.data.arrays import Dataset, Examples
from tests.checks.data.looks import found
from tests.kits.zoo import digits, divided, table


def heavy(seed: int) -> Examples:
    """Return a table of incomes, counts that are mostly 0, and one rare word."""
    generator = np.random.default_rng(seed)
    income = np.exp(1.5 * generator.normal(size=500))
    count = (generator.random(500) < 0.3) * generator.poisson(3, 500)
    rare = generator.random(500) < 0.03
    return Examples(
        name="incomes",
        inputs=np.stack([income, count, rare], axis=1).astype(np.float32),
        targets=income.astype(np.float32),
        task="regression",
    )


def changed(dataset: Dataset, inputs: np.ndarray) -> Dataset:
    return Dataset(examples=dataclasses.replace(dataset.examples, inputs=inputs), split=dataset.split)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes"])
def test_real_tables_pass(name):
    assert found(CHECK, divided(table(name, 0), 0)).verdict is CheckVerdict.PASS


def test_heavy_tails_pass():
    assert all(found(CHECK, divided(heavy(s), s)).verdict is CheckVerdict.PASS for s in range(5))


@pytest.mark.parametrize("name", ["digits", "iris", "wine", "breast_cancer"])
def test_examples_in_another_unit_are_found(name):
    dataset = divided(digits(0) if name == "digits" else table(name, 0), 0)
    inputs = dataset.examples.inputs.astype(np.float32)
    inputs[[3, 77]] *= 50
    look = found(CHECK, changed(dataset, inputs))
    assert look.verdict is CheckVerdict.WARN
    assert look.measured["gross"] == 2
    sheet = look.evidence[0]
    assert isinstance(sheet, Sheet)
    assert {row[0] for row in sheet.rows[:2]} == {3, 77}


def test_a_single_value_far_outside_is_found_and_named():
    dataset = divided(table("breast_cancer", 0), 0)
    inputs = dataset.examples.inputs.copy()
    inputs[5, 4] = 100.0
    look = found(CHECK, changed(dataset, inputs))
    assert look.verdict is CheckVerdict.WARN
    assert "the most unusual is example 5: its feature 4 is 100, " in look.sentence


def test_gaps_and_infinities_are_left_to_another_row():
    dataset = divided(table("wine", 0), 0)
    inputs = dataset.examples.inputs.copy()
    inputs[:9, 2], inputs[9, 3], inputs[:, 5] = np.nan, np.inf, np.nan
    assert found(CHECK, changed(dataset, inputs)).verdict is CheckVerdict.PASS


def test_all_examples_are_in_the_table_and_the_unusual_are_shown():
    dataset = divided(digits(0), 0)
    sheet, curves, seen = found(CHECK, dataset).evidence
    assert isinstance(sheet, Sheet)
    assert isinstance(curves, Curves)
    assert isinstance(seen, Pictures)
    assert len(sheet.rows) == 500
    assert sheet.columns[-4:] == ("mean", "std", "min", "max")
    assert {row[2] for row in sheet.rows if row[1] == "test"} == {""}
    assert curves.lines["channel 0"][1].sum() == pytest.approx(1.0)


def test_a_handful_has_no_usual():
    assert found(CHECK, divided(digits(0, 18), 0)).verdict is CheckVerdict.SKIP


def test_many_examples_are_sampled():
    look = found(CHECK, divided(table("breast_cancer", 0), 0), examples=300)
    assert look.verdict is CheckVerdict.PASS
    assert "0 of 300 examples (sampled from 500) are far outside" in look.sentence
