"""What a data source of the user's own may give, and what is said where it gives something else."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from search.errors import UsageError
from search.train.data.arrays import Examples
from search.train.data.own import examples_of, load
from search.train.data.split import divide

NUM = 20
X = np.random.default_rng(0).normal(size=(NUM, 3)).astype(np.float32)
WORDS = ["cat", "dog"] * (NUM // 2)
CLASSES = np.arange(NUM) % 2
SPLIT = {"fractions": [0.6, 0.2, 0.2], "stratify": True, "seed": 0, "group": None, "time": None}


class Pairs:
    """A map-style Dataset, which need not be torch's."""

    def __init__(self, inputs: Any, targets: Any) -> None:
        self._inputs, self._targets = inputs, targets

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        return self._inputs[i], self._targets[i]


class Picture:
    """What of PIL's pictures is used: their bands, and that NumPy reads them as (H, W) or (H, W, bands)."""

    def __init__(self, pixels: np.ndarray[Any, Any]) -> None:
        self._pixels = pixels

    def getbands(self) -> tuple[str, ...]:
        return ("L",) if self._pixels.ndim == 2 else ("R", "G", "B")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return self._pixels


def pixels(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, 255, size=shape, dtype=np.uint8)


# --------------------------------------------------------------------------------------------------- what is allowed

SOURCES: dict[str, Any] = {
    "arrays": (X, CLASSES),
    "tensors": (torch.tensor(X), torch.tensor(CLASSES)),
    "a tensor that is trained": (torch.tensor(X, requires_grad=True), torch.tensor(CLASSES)),
    "a tensor of a type that NumPy has not": (torch.tensor(X).bfloat16(), torch.tensor(CLASSES)),
    "lists": (X.tolist(), CLASSES.tolist()),
    "a list of two arrays": [X, CLASSES],
    "an array and a tensor": (X, torch.tensor(CLASSES)),
    "a dataset of torch's": TensorDataset(torch.tensor(X), torch.tensor(CLASSES)),
    "a part of one": Subset(TensorDataset(torch.tensor(X), torch.tensor(CLASSES)), range(NUM)),
    "a dataset that is nobody's": Pairs(X, CLASSES.tolist()),
    "a table": (pd.DataFrame(X, columns=list("abc")), pd.Series(CLASSES)),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_each_kind_of_source_gives_the_same_examples(kind: str) -> None:
    made = examples_of(SOURCES[kind], "mine")
    assert (made.name, made.task, made.classes, made.kind) == ("mine", "classification", ("0", "1"), "table")
    np.testing.assert_allclose(made.inputs, X, atol=0.02)
    assert made.targets.dtype == np.int64
    assert made.targets.tolist() == CLASSES.tolist()
    assert made.test is None


def test_examples_are_taken_as_they_are() -> None:
    own = Examples(name="own", inputs=X, targets=CLASSES.astype(np.int64), task="classification", classes=("a", "b"))
    assert examples_of(own, "other") is own


TARGETS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "words": (WORDS, ("cat", "dog")),
    "an array of words": (np.array(WORDS), ("cat", "dog")),
    "objects": (np.array(WORDS, dtype=object), ("cat", "dog")),
    "a column of words": (pd.Series(WORDS), ("cat", "dog")),
    "categories": (pd.Series(WORDS, dtype="category"), ("cat", "dog")),
    "truth values": (CLASSES == 1, ("False", "True")),
    "whole numbers that do not begin at 0": (CLASSES * 2 + 3, ("3", "5")),
    "bytes": (CLASSES.astype(np.uint8), ("0", "1")),
    "floats": (X[:, 0], ()),
    "doubles": (X[:, 0].astype(np.float64), ()),
    "a tensor of floats": (torch.tensor(X[:, 0]), ()),
    "a list of floats": (X[:, 0].tolist(), ()),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_words_truth_values_and_whole_numbers_are_classes_and_other_numbers_a_regression(kind: str) -> None:
    targets, classes = TARGETS[kind]
    made = examples_of((X, targets), "mine")
    assert made.classes == classes
    if classes:
        assert made.task == "classification"
        assert made.targets.tolist() == CLASSES.tolist()
    else:
        assert (made.task, made.targets.dtype, made.num_outputs) == ("regression", np.float32, 1)
        np.testing.assert_allclose(made.targets, X[:, 0])


@pytest.mark.parametrize("targets", [[1.5, 2.5], [torch.tensor(1.5), torch.tensor(2.5)], [np.float64(1.5), 2.5]])
def test_a_datasets_numbers_are_a_regression(targets: list[Any]) -> None:
    made = examples_of(Pairs(X[:2], targets), "mine")
    assert (made.task, made.targets.tolist()) == ("regression", [1.5, 2.5])


@pytest.mark.parametrize(("shape", "kind"), [((5,), "table"), ((2, 7), "series"), ((3, 4, 6), "picture")])
def test_what_an_input_is_follows_from_its_dimensions(shape: tuple[int, ...], kind: str) -> None:
    inputs = pixels(NUM, *shape)
    made = examples_of((inputs, CLASSES), "mine")
    assert (made.kind, made.inputs.shape, made.inputs.dtype) == (kind, inputs.shape, np.uint8)


@pytest.mark.parametrize(("shape", "expected"), [((4, 6), (1, 4, 6)), ((4, 6, 3), (3, 4, 6))])
def test_a_picture_of_pils_becomes_channels_rows_and_columns(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    raw = [pixels(*shape) for _ in range(4)]
    made = examples_of(Pairs([Picture(each) for each in raw], [0, 1, 0, 1]), "mine")
    assert made.inputs.shape == (4, *expected)
    last = raw[2][..., -1] if len(shape) == 3 else raw[2]
    assert (made.inputs[2, -1] == last).all()


def test_a_tables_words_become_one_hot_columns_which_a_split_may_use() -> None:
    table = pd.DataFrame({"size": X[:, 0], "kind": ["x", "y"] * 10, "year": range(NUM)})
    made = examples_of((table, WORDS), "mine")
    assert made.inputs.shape == (NUM, 4)
    assert made.table is not None
    split = divide(made, {**SPLIT, "time": "year"})
    assert max(split.train) < min(split.test)


# --------------------------------------------------------------------------------------------------- its own test set


@pytest.mark.parametrize("kind", ["arrays", "tensors", "a dataset of torch's", "a table"])
def test_a_test_set_of_its_own_is_kept_as_the_test_split(kind: str) -> None:
    made = examples_of(
        {"train": SOURCES[kind], "test": (SOURCES["arrays"] if kind != "a table" else SOURCES[kind])}, "m"
    )
    assert made.test is not None
    assert made.test.tolist() == list(range(NUM, 2 * NUM))
    split = divide(made, SPLIT)
    assert split.test.tolist() == made.test.tolist()
    assert sorted([*split.train, *split.validation]) == list(range(NUM))


def test_classes_of_both_parts_are_numbered_alike() -> None:
    made = examples_of({"train": (X[:4], ["b", "c", "a", "c"]), "test": (X[4:6], ["a", "c"])}, "mine")
    assert made.classes == ("a", "b", "c")
    assert made.targets.tolist() == [1, 2, 0, 2, 0, 2]


def test_columns_of_a_test_table_may_stand_in_another_order() -> None:
    table = pd.DataFrame(X, columns=list("abc"))
    made = examples_of({"train": (table, CLASSES), "test": (table[["c", "a", "b"]], CLASSES)}, "mine")
    np.testing.assert_array_equal(made.inputs[:NUM], made.inputs[NUM:])


# --------------------------------------------------------------------------------------------------- what is refused

LONGER = np.concatenate([X, X[:1]])
WRONG: dict[str, tuple[Any, str]] = {
    "nothing": (None, "gives NoneType; it must give a pair (inputs, targets) of arrays, tensors, lists or a DataFrame"),
    "inputs alone": (X, "gives ndarray; it must give a pair"),
    "a table alone": (pd.DataFrame(X), "gives DataFrame; it must give a pair"),
    "words": ("data.csv", "gives str; it must give a pair"),
    "a generator": ((pair for pair in zip(X, CLASSES, strict=True)), "gives generator; it must give"),
    "three parts": ((X, CLASSES, X), "gives tuple of ndarray, ndarray, ndarray; it must give"),
    "two pairs": (((X, CLASSES), (X, CLASSES)), "gives tuple of tuple, tuple; it must give"),
    "other keys": ({"train": (X, CLASSES), "valid": (X, CLASSES)}, "gives dict with train, valid; it must give"),
    "items without an end": (itertools.count(), "gives count; it must give"),
    "no pair as test": ({"train": (X, CLASSES), "test": None}, "gives NoneType; it must give"),
    "items of three": (TensorDataset(torch.tensor(X), torch.tensor(CLASSES), torch.tensor(X)), "the items of Tensor"),
    "inputs of different shapes": (
        Pairs([X[0], X[1, :2]], [0, 1]),
        "the inputs of Pairs have different shapes, (2,) and (3,)",
    ),
    "targets of different shapes": (Pairs(X[:2], [X[0], X[1, :2]]), "the targets of Pairs have different shapes"),
    "several targets each": (Pairs(X, X), "the targets have the shape (20, 3); they must be (N,)"),
    "one-hot targets": ((X, np.eye(2)[CLASSES]), "the targets have the shape (20, 2); they must be (N,)"),
    "inputs without features": ((X[:, 0], CLASSES), "the inputs are float32 (20,); they must be numbers (N, ...)"),
    "words as inputs": ((np.array([WORDS]).T, CLASSES), "the inputs are <U3 (20, 1); they must be numbers"),
    "complex numbers": ((X.astype(complex), CLASSES), "the inputs are complex128 (20, 3); they must be numbers"),
    "moments as targets": ((X, np.arange(NUM).astype("datetime64[D]")), "the targets are datetime64[D]; they must be"),
    "no examples": ((X[:0], CLASSES[:0]), "gives no examples"),
    "an empty dataset": (Pairs([], []), "gives no examples"),
    "one class": ((X, ["cat"] * NUM), "the targets are of one class only, cat"),
    "a word that is missing": ((X, [None, *WORDS[1:]]), "1 targets are missing or NaN; leave these examples out"),
    "a number that is missing": ((X, [float("nan"), *X[1:, 0]]), "1 targets are missing or NaN"),
    "more inputs in train": (
        {"train": (LONGER, CLASSES), "test": (X, CLASSES)},
        "train has 21 inputs but 20 targets",
    ),
    "another width in test": (
        {"train": (X, CLASSES), "test": (X[:, :2], CLASSES)},
        "an input of train is (3,), one of test (2,); must be the same",
    ),
    "a class of the test set alone": (
        {"train": (X[:4], ["b", "c", "b", "c"]), "test": (X[4:6], ["a", "c"])},
        "test has the class a, which train has no example of",
    ),
    "one class in train": (
        {"train": (X[:4], ["b"] * 4), "test": (X[4:6], ["a", "b"])},
        "test has the class a, which train has no example of",
    ),
    "whole numbers in train, floats in test": (
        {"train": (X, CLASSES), "test": (X, CLASSES * 1.0)},
        "the targets of train are whole numbers, those of test floats; must be the same",
    ),
    "words in train, whole numbers in test": (
        {"train": (X, WORDS), "test": (X, CLASSES)},
        "the targets of train are words, those of test whole numbers; must be the same",
    ),
    "dates as inputs": (
        (pd.DataFrame({"day": pd.to_datetime(["2020-01-01"] * NUM)}), CLASSES),
        "column day: of dates; must be numbers or words",
    ),
    "another column in test": (
        {"train": (pd.DataFrame({"a": X[:, 0]}), CLASSES), "test": (pd.DataFrame({"b": X[:, 0]}), CLASSES)},
        "train and test must have the same columns; a stands in one alone",
    ),
    "a table beside an array": ({"train": (pd.DataFrame(X), CLASSES), "test": (X, CLASSES)}, "an input of train is"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_anything_else_is_refused_in_one_line_that_names_the_key(kind: str) -> None:
    made, said = WRONG[kind]
    with pytest.raises(UsageError) as refused:
        examples_of(made, "mine")
    assert str(refused.value).startswith(("data._target_: ", "column "))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_more_inputs_than_targets_are_refused() -> None:
    with pytest.raises(UsageError, match="data: 21 inputs but 20 targets"):
        examples_of((LONGER, CLASSES), "mine")


# ------------------------------------------------------------------------------------------- the user's own function

MODULE = """\
import sys

import numpy as np

X = np.arange(40.0).reshape(20, 2)


def plain(num=20):
    return X[:num], X[:num, 0]


def named(name):
    return X, [f"{name} {i % 2}" for i in range(20)]


def anything(**settings):
    return X, sorted(settings) * 10 if len(settings) == 2 else X[:, 0]


def fails():
    return deeper()


def deeper():
    raise ValueError("no\\nsuch thing")


def in_a_library():
    return np.loadtxt("missing.csv")


def leaves():
    sys.exit(3)


class Broken:
    def __len__(self):
        return 3

    def __getitem__(self, i):
        raise OSError(f"picture {i} is broken")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Gives the node of a function of the user's."""
    (tmp_path / "own_sources.py").write_text(MODULE)
    (tmp_path / "own_half_written.py").write_text("def data(:\n")
    (tmp_path / "own_imports.py").write_text("import own_half_written\n")
    (tmp_path / "own_leaves.py").write_text("import sys\nsys.exit(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    return lambda target, **settings: {"_target_": target, **settings}


def test_a_source_is_named_by_its_configuration_or_after_its_function(module: Callable[..., dict[str, Any]]) -> None:
    assert load(module("own_sources.plain")).name == "plain"
    assert load(module("own_sources.plain", name="mine", num=10)).name == "mine"
    assert len(load(module("own_sources.plain", num=10))) == 10


def test_its_name_is_passed_to_a_source_that_takes_one_alone(module: Callable[..., dict[str, Any]]) -> None:
    assert load(module("own_sources.named", name="mine")).classes == ("mine 0", "mine 1")
    assert load(module("own_sources.named")).classes == ("named 0", "named 1")
    assert load(module("own_sources.anything", name="mine", more=3)).classes == ("more", "name")


def test_a_source_of_a_library_needs_no_code() -> None:
    made = load({"_target_": "sklearn.datasets.load_iris", "return_X_y": True})
    assert (made.name, made.kind, made.classes, len(made)) == ("load_iris", "table", ("0", "1", "2"), 150)


FAILING = {
    "own_sources.fails": "data._target_=own_sources.fails: ValueError: no such thing (own_sources.py:25 in deeper)",
    "own_sources.in_a_library": "FileNotFoundError: missing.csv not found. (own_sources.py:29 in in_a_library)",
    "own_sources.leaves": "data._target_=own_sources.leaves: SystemExit: 3 (own_sources.py:33 in leaves)",
    "own_sources.Broken": "OSError: picture 0 is broken (own_sources.py:41 in __getitem__)",
    "own_sources.plan": "own_sources has no plan; did you mean plain? allowed: plain, named, anything, fails, deeper,",
    "own_half_written.data": "data._target_=own_half_written.data: invalid syntax (own_half_written.py:1)",
    "own_imports.data": "data._target_=own_imports.data: invalid syntax (own_half_written.py:1)",
    "own_leaves.data": "data._target_=own_leaves.data: SystemExit: 1 (own_leaves.py:2 in <module>)",
    "own_nowhere.data": "data._target_=own_nowhere.data: No module named 'own_nowhere'",
    "sklearn.datasets.load_files": "data._target_=sklearn.datasets.load_files: ",
}


@pytest.mark.parametrize("target", FAILING)
def test_a_source_that_fails_is_told_in_one_line_with_the_users(
    module: Callable[..., dict[str, Any]], target: str
) -> None:
    with pytest.raises(UsageError) as refused:
        load(module(target))
    assert FAILING[target] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_mistyped_argument_is_answered_by_those_that_exist(module: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(UsageError, match=r"data\.nam: no argument of plain; did you mean num\? allowed: num"):
        load(module("own_sources.plain", nam=10))


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: None)
    with pytest.raises(AttributeError):
        load({"_target_": "search.train.data.digits.load", "name": "digits"})
