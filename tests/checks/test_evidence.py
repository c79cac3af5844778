import csv
import dataclasses
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.checks.evidence import Bars, Curves, Figure, Matrix, Pictures, Sheet, is_figure, load, save

LINE = np.array([[0.0, 1.0, 2.0], [2.3, np.nan, np.inf]])
ODD_NAMES = ("b/c", "a", "../up", "", "模型 $x$", "a.npy", "meta", "line\nbreak", "nul\0", "\ud800", "Z" * 300)
CURVES = Curves(name="loss", title="loss", x="step", y="loss", lines={"train": LINE})
FIGURES: dict[str, Figure] = {
    "pictures": Pictures(
        name="batch", title="a batch", inputs=np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2), captions=("3", "é|\n7")
    ),
    "series": Pictures(name="s", title="series", inputs=np.zeros((2, 1, 5), np.float32)),
    "no pictures": Pictures(name="none", title="none", inputs=np.zeros((0, 1, 8, 8))),
    "curves": Curves(
        name="range",
        title="range test",
        x="learning rate",
        y="loss",
        lines={"exponential": LINE, "linear": LINE[:, :1]},
        marks={"steepest": 0.01, "lost": float("nan")},
        levels={"chance": 2.3, "none": float("inf")},
        log_x=True,
        log_y=True,
    ),
    "odd names": Curves(name="odd", title="t", x="x", y="y", lines=dict.fromkeys(ODD_NAMES, LINE), marks={"a/b": 1.0}),
    "many lines": Curves(
        name="many", title="t", x="x", y="y", lines={f"layer {i}": LINE + i for i in range(12, 0, -1)}
    ),
    "no lines": Curves(name="none", title="t", x="x", y="y", lines={}),
    "bars": Bars(
        name="classes",
        title="examples",
        y="examples",
        labels=("0", "模"),
        bars={"train": np.array([3, 4]), "test": np.array([1, 2])},
        levels={"even": 3.5},
    ),
    "no bars": Bars(name="none", title="t", y="y", labels=(), bars={}),
    "matrix": Matrix(name="m", title="gradient", x="input", y="output", values=np.array([[True, False]])),
}


def same(one: Any, other: Any) -> bool:
    """Tell whether two fields are the same, in type and order too."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and (one == other or (one != one and other != other))


@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
def test_a_figure_comes_back_as_it_was(tmp_path: Path, figure: Figure) -> None:
    file = save(figure, tmp_path, "R11")
    assert file == f"R11-{figure.name}.npz"
    assert is_figure(file)
    assert [path.name for path in tmp_path.iterdir()] == [file]
    again = load(tmp_path / file)
    assert type(again) is type(figure)
    for field in dataclasses.fields(figure):
        assert same(getattr(figure, field.name), getattr(again, field.name)), field.name


def test_numbers_of_numpy_come_back_as_numbers(tmp_path: Path) -> None:
    half: Any = np.float32(0.5)
    three: Any = np.int64(3)
    yes: Any = np.bool_(True)
    given = dataclasses.replace(CURVES, marks={"best": half}, levels={"n": three}, log_x=yes)
    again = load(tmp_path / save(given, tmp_path, "R36"))
    assert isinstance(again, Curves)
    assert (again.marks, again.levels, again.log_x) == ({"best": 0.5}, {"n": 3}, True)


def test_a_list_of_numbers_does_for_an_array(tmp_path: Path) -> None:
    lines: Any = {"train": [[0, 1], [2, 3]]}
    again = load(tmp_path / save(dataclasses.replace(CURVES, lines=lines), tmp_path, "R17"))
    assert isinstance(again, Curves)
    assert np.array_equal(again.lines["train"], [[0, 1], [2, 3]])


def test_a_name_stays_in_the_folder(tmp_path: Path) -> None:
    for name in ("conv/1 weights", "../up", "a\0b"):
        file = save(dataclasses.replace(CURVES, name=name), tmp_path, "R19")
        assert Path(file).name == file
        load(tmp_path / file)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "R19-..-up.npz",
        "R19-a-b.npz",
        "R19-conv-1-weights.npz",
    ]


# ------------------------------------------------------------------------------------------------------- sheets


def test_a_sheet_is_a_table_of_words(tmp_path: Path) -> None:
    rows = [(3, "a,b", 0.5), (1, 'with "quotes"\nand a line', float("nan")), (2, "模 \ud800", None)]
    file = save(Sheet(name="suspects", columns=("index", "class", "p"), rows=rows), tmp_path, "R04")
    assert file == "R04-suspects.csv"
    assert not is_figure(file)
    read = list(csv.reader(io.StringIO((tmp_path / file).read_bytes().decode(), newline="")))
    assert read == [
        ["index", "class", "p"],
        ["3", "a,b", "0.5"],
        ["1", 'with "quotes"\nand a line', "nan"],
        ["2", "模 \\ud800", ""],
    ]


def test_an_empty_sheet_has_its_columns(tmp_path: Path) -> None:
    file = save(Sheet(name="none", columns=("index",), rows=()), tmp_path, "R02")
    assert (tmp_path / file).read_text().split() == ["index"]


# ----------------------------------------------------------------------------------------------------- refusals

OBJECTS = np.array([{"a": 1}, None], dtype=object)


@pytest.mark.parametrize(
    "figure",
    [
        Matrix(name="m", title="t", x="x", y="y", values=OBJECTS),
        dataclasses.replace(CURVES, lines={"train": OBJECTS}),
        dataclasses.replace(CURVES, marks={"at": {1, 2}}),  # type: ignore[dict-item]
    ],
    ids=["an array of objects", "one among lines", "a mark that is no number"],
)
def test_what_is_no_number_is_not_saved(tmp_path: Path, figure: Figure) -> None:
    with pytest.raises(ValueError):
        save(figure, tmp_path, "R01")
    assert list(tmp_path.iterdir()) == []


def stored(path: Path, meta: str, **arrays: Any) -> None:
    np.savez(path, allow_pickle=True, meta=np.array(meta), **arrays)


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "R01-m.npz"
    stored(path, '{"kind": "Matrix", "name": "m", "title": "t", "x": "x", "y": "y"}', values=OBJECTS)
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        load(path)


METAS = {
    "another kind": '{"kind": "Sheet", "name": "m"}',
    "no kind": '{"name": "m"}',
    "a field is missing": '{"kind": "Matrix", "name": "m"}',
    "its array is missing": '{"kind": "Pictures", "name": "m", "title": "t", "captions": []}',
    "a list": "[]",
    "cut off": '{"kind": ',
}


@pytest.mark.parametrize("meta", METAS.values(), ids=METAS)
def test_another_description_is_refused(tmp_path: Path, meta: str) -> None:
    stored(tmp_path / "f.npz", meta, values=np.zeros((1, 1)))
    with pytest.raises(ValueError):
        load(tmp_path / "f.npz")


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def spoilt(content: bytes) -> bytes:
    middle = len(content) // 4
    return content[:middle] + bytes(b ^ 0xFF for b in content[middle : middle + 20]) + content[middle + 20 :]


@pytest.mark.parametrize("change", [cut, spoilt, lambda _: b"", lambda _: b"\x80\x04N.", lambda _: b"PK\x03\x04"])
def test_a_broken_file_is_refused(tmp_path: Path, change: Any) -> None:
    path = tmp_path / save(CURVES, tmp_path, "R11")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError):
        load(path)


def test_an_array_or_an_archive_of_others_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", LINE)
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    for name in ("a.npy", "z.npz"):
        with pytest.raises(ValueError):
            load(tmp_path / name)


def test_where_none_was_written_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "R11-loss.npz")
