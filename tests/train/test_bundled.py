"""Data that packages bring: scikit-learn's tables, and MNIST-1D."""

import random
import sys

import numpy as np
import pytest

from search.errors import UsageError
from search.train.data import bundled, mnist1d
from search.train.data.table import TableEncoder

TABLES = {
    "iris": ((150, 4), ("setosa", "versicolor", "virginica")),
    "wine": ((178, 13), ("class_0", "class_1", "class_2")),
    "breast_cancer": ((569, 30), ("malignant", "benign")),
    "diabetes": ((442, 10), ()),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_bundled_table_has_its_columns_by_name(name: str) -> None:
    data = getattr(bundled, name)(name)
    shape, classes = TABLES[name]
    assert (data.name, data.inputs.shape, data.classes, data.test) == (name, shape, classes, None)
    assert (data.inputs.dtype, data.targets.dtype) == (np.float32, np.int64 if classes else np.float32)
    assert data.task == ("classification" if classes else "regression")
    assert data.table is not None
    frame = TableEncoder.from_plain(data.table).decode(data.inputs)
    assert list(frame) == list(data.columns)
    for column, values in data.columns.items():
        np.testing.assert_allclose(frame[column], values, rtol=1e-6)


def test_the_diabetes_patients_are_not_standardised_beforehand() -> None:
    age = bundled.diabetes("d").columns["age"]
    assert (age.min(), age.max()) == (19, 79)


def test_mnist1d_is_the_authors_file_in_float32() -> None:
    data = mnist1d.load("mnist1d")
    assert data.digest() == "be5e61cd2181a806"  # of mnist1d_data.pkl in their repository, in this order and type
    assert (data.kind, data.inputs.shape, data.inputs.dtype) == ("series", (5000, 1, 40), np.float32)
    assert data.test is not None
    np.testing.assert_array_equal(data.test, np.arange(4000, 5000))
    assert data.num_outputs == 10


def test_mnist1d_shuffled_has_the_positions_of_all_series_in_one_other_order() -> None:
    plain, shuffled = mnist1d.load("m").inputs[:, 0], mnist1d.load("m", shuffled=True).inputs[:, 0]
    order = [int(np.argmin(np.abs(plain - column[:, None]).sum(axis=0))) for column in shuffled.T]
    assert sorted(order) == list(range(40)) != order
    np.testing.assert_array_equal(plain[:, order], shuffled)


def test_making_mnist1d_leaves_global_randomness_as_it_was() -> None:
    random.seed(5)
    np.random.seed(5)
    expected = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(5)
    mnist1d.load("m")
    assert (random.random(), np.random.random()) == expected


def test_without_the_package_mnist1d_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mnist1d"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UsageError, match=r"^data=mnist1d: needs the package mnist1d; pip install mnist1d$"):
        mnist1d.load("m")
