import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from search.errors import UsageError
from search.train.data.arrays import Examples
from search.train.data.table import MAX_CATEGORIES, TableEncoder, only_known_words

TABLE = pd.DataFrame(
    {
        "size": [1.5, np.nan, 3.0],
        "colour": ["red", "blue", None],
        "count": [1, 2, 3],
        "sold": [True, False, True],
    }
)
ROWS = [[1.5, 0, 1, 1, 1], [np.nan, 1, 0, 2, 0], [3.0, 0, 0, 3, 1]]


def test_numbers_stay_and_words_become_columns_of_their_own() -> None:
    encoder = TableEncoder.fit(TABLE)
    assert encoder.columns == (("size", None), ("colour", ("blue", "red")), ("count", None), ("sold", None))
    rows = encoder.encode(TABLE)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, np.array(ROWS, dtype=np.float32))


def test_words_never_seen_and_words_missing_are_all_zeros() -> None:
    other = TABLE.assign(colour=["green", "red", np.nan])
    np.testing.assert_array_equal(TableEncoder.fit(TABLE).encode(other)[:, 1:3], [[0, 0], [0, 1], [0, 0]])


@pytest.mark.parametrize(
    "change",
    [lambda t: t[["sold", "colour", "count", "size"]], lambda t: t.assign(surplus=1)],
    ids=["another order", "a surplus column"],
)
def test_columns_are_found_by_name(change: Any) -> None:
    encoder = TableEncoder.fit(TABLE)
    np.testing.assert_array_equal(encoder.encode(change(TABLE)), encoder.encode(TABLE))


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match=r"column colour is missing; needed: size, colour, count, sold"):
        TableEncoder.fit(TABLE).encode(TABLE.drop(columns="colour"))


def different_words(number: int) -> pd.DataFrame:
    return pd.DataFrame({"id": [f"w{i:03d}" for i in range(number)]})


def test_words_become_columns_up_to_a_limit() -> None:
    table = different_words(MAX_CATEGORIES)
    np.testing.assert_array_equal(TableEncoder.fit(table).encode(table), np.eye(MAX_CATEGORIES))


def test_more_words_than_that_are_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"column id: 101 different words, at most 100 .* data\.drop=\[id\]"):
        TableEncoder.fit(different_words(MAX_CATEGORIES + 1))


def test_an_encoder_survives_json() -> None:
    encoder = TableEncoder.fit(TABLE)
    assert TableEncoder.from_plain(json.loads(json.dumps(encoder.to_plain()))) == encoder


def test_decoded_rows_are_the_table_again() -> None:
    encoder = TableEncoder.fit(TABLE)
    decoded = encoder.decode(encoder.encode(TABLE))
    assert list(decoded.columns) == list(TABLE.columns)
    assert decoded["colour"].tolist()[:2] == ["red", "blue"]
    assert decoded["colour"].isna().tolist() == [False, False, True]
    np.testing.assert_array_equal(decoded["size"], TABLE["size"])
    np.testing.assert_array_equal(encoder.encode(decoded), encoder.encode(TABLE))


def test_words_that_training_never_saw_are_left_out() -> None:
    encoder = TableEncoder.fit(TABLE)
    rows = encoder.encode(TABLE)
    known, kept = encoder.known(rows[:1])
    assert known.columns == (("size", None), ("colour", ("red",)), ("count", None), ("sold", None))
    np.testing.assert_array_equal(rows[:, kept], known.encode(TABLE))
    assert encoder.columns[1] == ("colour", ("blue", "red"))


def test_a_column_of_words_may_lose_them_all() -> None:
    encoder = TableEncoder.fit(TABLE)
    known, kept = encoder.known(encoder.encode(TABLE)[2:])
    assert known.columns[1] == ("colour", ())
    assert kept.tolist() == [0, 3, 4]
    decoded = known.decode(known.encode(TABLE))
    assert decoded["colour"].isna().all()
    assert decoded["count"].tolist() == [1, 2, 3]


def examples(table: pd.DataFrame) -> Examples:
    encoder = TableEncoder.fit(table)
    return Examples(
        name="t",
        inputs=encoder.encode(table),
        targets=np.zeros(len(table), dtype=np.float32),
        task="regression",
        table=encoder.to_plain(),
    )


def test_inputs_and_encoder_lose_the_same_words() -> None:
    fewer = only_known_words(examples(TABLE), np.array([0, 2]))
    assert fewer.table is not None
    encoder = TableEncoder.from_plain(fewer.table)
    assert encoder.columns[1] == ("colour", ("red",))
    np.testing.assert_array_equal(fewer.inputs, encoder.encode(TABLE))


def test_what_is_no_table_stays_as_it_is() -> None:
    pictures = Examples(name="p", inputs=np.zeros((3, 1, 2, 2)), targets=np.zeros(3), task="regression")
    assert only_known_words(pictures, np.array([0])) is pictures


def test_words_in_a_column_of_numbers_are_refused_with_its_name() -> None:
    with pytest.raises(ValueError, match="column size: must be numbers"):
        TableEncoder.fit(TABLE).encode(TABLE.assign(size="large"))
