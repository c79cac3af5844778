"""Tables in Parquet files: what differs from a CSV; the rest is `test_csv`."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from search.errors import UsageError
from search.train.data import csv
from search.train.data.arrays import Examples
from search.train.data.parquet import load

TABLE = pd.DataFrame(
    {
        "size": [1.5, None, 3.0, 2.0],
        "colour": ["red", "blue", None, "red"],
        "price": [10.5, 11.25, 9.0, 8.5],
        "kind": pd.Series([0, 1, 1, 0], dtype="Int64"),
        "sort": pd.Categorical(["b", "a", "a", "b"]),
    }
)


def read(tmp_path: Path, table: pd.DataFrame = TABLE, **arguments: Any) -> Examples:
    table.to_parquet(tmp_path / "t.parquet")
    return load(**{"name": "t", "path": str(tmp_path / "t.parquet"), "target": "price", **arguments})


def test_the_same_table_gives_the_same_examples_as_a_csv(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "t.csv", index=False)
    ours, theirs = read(tmp_path), csv.load("t", str(tmp_path / "t.csv"), "price")
    np.testing.assert_array_equal(ours.inputs, theirs.inputs)
    np.testing.assert_array_equal(ours.targets, theirs.targets)
    assert (ours.table, ours.task, ours.classes) == (theirs.table, theirs.task, theirs.classes)


@pytest.mark.parametrize(("target", "classes"), [("kind", ("0", "1")), ("sort", ("a", "b")), ("price", ())])
def test_the_types_of_a_column_do_not_matter_to_the_target(tmp_path: Path, target: str, classes: tuple[str]) -> None:
    data = read(tmp_path, target=target, drop=["size"])
    assert data.classes == classes
    assert data.targets.dtype == (np.int64 if classes else np.float32)


def test_an_index_is_no_input(tmp_path: Path) -> None:
    data = read(tmp_path, TABLE.set_index(pd.Index([9, 8, 7, 6], name="id")))
    assert data.inputs.shape == read(tmp_path).inputs.shape
    assert "id" not in data.columns


def test_a_folder_of_files_is_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for i in range(2):
        TABLE[2 * i : 2 * i + 2].to_parquet(folder / f"{i}.parquet")
    whole = load("t", str(folder), "price")
    np.testing.assert_array_equal(whole.targets, TABLE["price"].to_numpy(dtype=np.float32))


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with pytest.raises(UsageError, match=r"^data\.path=.*t\.parquet: no such file$"):
        load("t", str(path), "price")
    for content in (b"", b"a,b\n1,2\n", b"PAR1 and nothing"):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"^data\.path=.*t\.parquet: not a readable Parquet file \(.*\)$"):
            load("t", str(path), "price")
    with pytest.raises(UsageError, match=r"data\.target=prize: no such column; allowed: size, colour, price, kind"):
        read(tmp_path, target="prize")
    with pytest.raises(UsageError, match=r"data\.path=.*: has no rows"):
        read(tmp_path, TABLE[:0])


def test_exact_decimals_are_numbers(tmp_path: Path) -> None:
    prices = [Decimal("10.50"), Decimal("11.25"), Decimal("9.00"), Decimal("8.50")]
    sizes = [Decimal("1.5"), None, Decimal("3.0"), Decimal("2.0")]
    exact = TABLE.assign(price=pd.Series(prices, dtype=object), size=pd.Series(sizes, dtype=object))
    ours, theirs = read(tmp_path, exact), read(tmp_path)
    assert (ours.task, ours.classes, ours.table) == ("regression", (), theirs.table)
    np.testing.assert_array_equal(ours.targets, theirs.targets)
    np.testing.assert_array_equal(ours.inputs, theirs.inputs)


MOMENTS = pd.to_datetime(["2020-01-01"] * 4)
UNUSABLE: dict[str, tuple[Any, str]] = {
    "moments": (MOMENTS, "dates"),
    "days": (MOMENTS.date, "dates"),
    "durations": (MOMENTS - MOMENTS[0], "times or durations"),
    "lists": ([[1.0], [2.0], None, [3.0]], "lists"),
    "bytes": ([b"a", None, b"b", b"c"], "bytes"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_what_is_neither_words_nor_numbers_is_refused_unless_it_is_dropped(tmp_path: Path, kind: str) -> None:
    values, what = UNUSABLE[kind]
    table = TABLE.assign(odd=values)
    with pytest.raises(UsageError) as refusal:
        read(tmp_path, table)
    said = f"column odd: of {what}; must be numbers or words, or be left out with data.drop=[odd]"
    assert str(refusal.value) == said
    assert read(tmp_path, table, drop=["odd"]).task == "regression"


def test_a_target_that_is_neither_words_nor_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^data\.target=odd: a column of dates; must be words or numbers$"):
        read(tmp_path, TABLE.assign(odd=MOMENTS), target="odd")
