"""Inputs and predictions a piece at a time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from search.errors import UsageError
from search.post import streams
from search.post.streams import arrays, tables, writing
from search.train.data.table import TableEncoder

ENCODER = TableEncoder(columns=(("size", None), ("code", ("01", "1"))))
ROWS = pd.DataFrame({"size": [1.0, np.nan, 3.0, 4.0, 5.0], "code": ["01", "1", "01", None, "x"]})


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_ROWS", 2)
    monkeypatch.setattr(streams, "_EXAMPLES", 2)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_comes_in_pieces_with_its_words_as_they_are_written(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    ROWS.to_csv(path, index=False) if ending == "csv" else ROWS.to_parquet(path)
    pieces = list(tables(path, ENCODER))
    assert [len(piece) for piece in pieces] == [2, 2, 1]
    encoded = np.concatenate([ENCODER.encode(piece) for piece in pieces])
    assert np.array_equal(encoded, ENCODER.encode(ROWS), equal_nan=True)
    assert encoded[:, 1:].tolist() == [[1, 0], [0, 1], [1, 0], [0, 0], [0, 0]]


def test_a_folder_of_parquet_is_one_table(tmp_path: Path) -> None:
    for i in range(2):
        ROWS.to_parquet(tmp_path / f"{i}.parquet")
    assert sum(map(len, tables(tmp_path, ENCODER))) == 10


def test_arrays_come_in_pieces(tmp_path: Path) -> None:
    array = np.arange(15.0).reshape(5, 3)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "one.npz", mine=array)
    np.savez(tmp_path / "two.npz", x=array, y=array[:, 0])
    for name in ("a.npy", "one.npz", "two.npz"):
        pieces = list(arrays(tmp_path / name, "x"))
        assert [len(piece) for piece in pieces] == [2, 2, 1]
        assert np.array_equal(np.concatenate(pieces), array)


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
        list(tables(path, ENCODER) if path.suffix in (".csv", ".parquet") else arrays(path, "x"))
    assert str(refused.value).startswith(f"predict.input={path}: ")
    assert "\n" not in str(refused.value)


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
