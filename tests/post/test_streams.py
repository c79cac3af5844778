"""Inputs and predictions a piece at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from search.errors import UsageError
from search.post import streams
from search.post.streams import inputs_in, whole, writing
from search.train.data.arrays import Array, Examples
from search.train.data.table import TableEncoder

ENCODER = TableEncoder(columns=(("size", None), ("code", ("01", "1"))))
ROWS = pd.DataFrame({"size": [1.0, np.nan, 3.0, 4.0, 5.0], "code": ["01", "1", "01", None, "x"]})


def pieces(path: Path, encoder: TableEncoder | None = None) -> list[Any]:
    return list(inputs_in(path, encoder, name="x", key="a.key"))


def examples(inputs: Array, encoder: TableEncoder | None = None) -> Examples:
    targets, table = np.zeros(len(inputs), dtype=np.float32), None if encoder is None else encoder.to_plain()
    return Examples(name="e", inputs=inputs, targets=targets, task="regression", table=table)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_ROWS", 2)
    monkeypatch.setattr(streams, "_EXAMPLES", 2)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_comes_in_pieces_with_its_words_as_they_are_written(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    ROWS.to_csv(path, index=False) if ending == "csv" else ROWS.to_parquet(path)
    found = pieces(path, ENCODER)
    assert [len(piece) for piece in found] == [2, 2, 1]
    encoded = np.concatenate([ENCODER.encode(piece) for piece in found])
    assert np.array_equal(encoded, ENCODER.encode(ROWS), equal_nan=True)
    assert encoded[:, 1:].tolist() == [[1, 0], [0, 1], [1, 0], [0, 0], [0, 0]]


def test_a_folder_of_parquet_is_one_table(tmp_path: Path) -> None:
    for i in range(2):
        ROWS.to_parquet(tmp_path / f"{i}.parquet")
    assert sum(map(len, pieces(tmp_path, ENCODER))) == 10


def test_arrays_come_in_pieces(tmp_path: Path) -> None:
    array = np.arange(15.0).reshape(5, 3)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "one.npz", mine=array)
    np.savez(tmp_path / "two.npz", x=array, y=array[:, 0])
    for name in ("a.npy", "one.npz", "two.npz"):
        found = pieces(tmp_path / name)
        assert [len(piece) for piece in found] == [2, 2, 1]
        assert np.array_equal(np.concatenate(found), array)


def _object_array(path: Path) -> None:
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)


REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("a.csv", lambda _: None, "no such file"),
    "header alone": ("a.csv", lambda path: path.write_text("size,code\n"), "has no rows"),
    "empty": ("a.csv", lambda path: path.write_text(""), "not a readable file"),
    "bytes": ("a.csv", lambda path: path.write_bytes(b"\xff\xfe\x00,\xd8\n1,2\n"), "not a readable file"),
    "no parquet": ("a.parquet", lambda path: path.write_text("x"), "not a readable file"),
    "no npy": ("a.npy", lambda path: path.write_text("x"), "not a readable file"),
    "pickled": ("a.npy", _object_array, "not a readable file"),
    "a number": ("a.npy", lambda path: np.save(path, np.float64(3)), r"holds float64 \(\); must be numbers"),
    "words": ("a.npy", lambda path: np.save(path, np.array(["a"])), "must be numbers"),
    "no examples": ("a.npy", lambda path: np.save(path, np.zeros((0, 3))), "has no rows"),
    "other arrays": ("a.npz", lambda path: np.savez(path, a=[1], b=[2]), "holds a, b; must hold x, or one array"),
}


@pytest.mark.parametrize(("name", "make", "why"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, name: str, make: Callable[[Path], object], why: str
) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(UsageError, match=why) as refused:
        pieces(path, ENCODER if path.suffix in (".csv", ".parquet") else None)
    assert str(refused.value).startswith(f"a.key={path}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_is_read_whole_as_the_examples_are_whatever_else_is_in_it(tmp_path: Path, ending: str) -> None:
    path, table = tmp_path / f"t.{ending}", ROWS.assign(target="unknown", id=range(5))[["id", "code", "target", "size"]]
    table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)
    read = whole(path, examples(np.zeros((1, 3), dtype=np.float32), ENCODER), name="x", key="a.key")
    assert np.array_equal(read, ENCODER.encode(ROWS), equal_nan=True)


def test_an_array_is_read_whole_in_the_type_of_the_examples(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(15.0).reshape(5, 3))
    read = whole(tmp_path / "a.npy", examples(np.zeros((1, 3), dtype=np.uint8)), name="x", key="a.key")
    assert read.dtype == np.uint8
    assert read.tolist() == np.arange(15).reshape(5, 3).tolist()


UNFIT: dict[str, tuple[Array, str, str]] = {
    "shape": (np.zeros((5, 4)), "uint8", r"inputs have the shape \(2, 4\); must be \(N, 3\)"),
    "dimensions": (np.zeros(5), "uint8", r"inputs have the shape \(2,\); must be \(N, 3\)"),
    "shares": (np.full((5, 3), 0.25), "uint8", "hold 0.25; must be whole numbers from 0 to 255, as the data's"),
    "range": (np.full((5, 3), 256), "uint8", "hold 256; must be whole numbers from 0 to 255, as the data's"),
    "gaps": (np.full((5, 3), np.nan), "int16", "hold nan; must be whole numbers from -32768 to 32767, as the data's"),
    "infinity": (np.full((5, 3), -np.inf), "float32", "hold -inf; must be finite, or NaN"),
    "size": (np.full((5, 3), 1e39), "float32", r"hold 1e\+39; must be finite, or NaN"),
}


@pytest.mark.parametrize(("inputs", "dtype", "why"), UNFIT.values(), ids=UNFIT)
def test_inputs_that_are_not_as_the_data_are_refused(tmp_path: Path, inputs: Array, dtype: str, why: str) -> None:
    np.save(tmp_path / "a.npy", inputs)
    with pytest.raises(UsageError, match=rf"^a\.key=.*a\.npy: inputs {why.removeprefix('inputs ')}"):
        whole(tmp_path / "a.npy", examples(np.zeros((1, 3), dtype=dtype)), name="x", key="a.key")


def test_a_table_without_a_column_is_refused(tmp_path: Path) -> None:
    ROWS[["size"]].to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UsageError, match=r"^a\.key=.*t\.csv: column code is missing; needed: size, code$"):
        whole(tmp_path / "t.csv", examples(np.zeros((1, 3), dtype=np.float32), ENCODER), name="x", key="a.key")


@pytest.mark.parametrize(("encoder", "what"), [(ENCODER, r"tables here; must end in \.csv or"), (None, "arrays here")])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, encoder: TableEncoder | None, what: str) -> None:
    with pytest.raises(UsageError, match=rf"^a\.key=.*a\.txt: inputs are {what}"):
        pieces(tmp_path / "a.txt", encoder)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_predictions_take_their_place_whole(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out.{ending}"
    path.write_text("before")

    def fail() -> None:
        with writing(path) as write:
            write(ROWS)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "before"
    with writing(path) as write:
        write(ROWS)
        write(ROWS)
    read = pd.read_csv(path, dtype={"code": str}) if ending == "csv" else pd.read_parquet(path)
    pd.testing.assert_frame_equal(read, pd.concat([ROWS, ROWS], ignore_index=True), check_dtype=False)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
