"""Arrays in a file: what is read of it, and what is said where it cannot be learned from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.errors import UsageError
from search.train.data.arrays import Examples
from search.train.data.npz import load

X = np.arange(24, dtype=np.uint8).reshape(6, 1, 2, 2)
Y = np.array([0, 1, 2, 0, 1, 2])


def read(tmp_path: Path, arguments: dict[str, Any] | None = None, **arrays: Any) -> Examples:
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    return load("a", str(path), **(arguments or {}))


def test_arrays_are_read_as_they_are(tmp_path: Path) -> None:
    data = read(tmp_path, x=X, y=Y)
    assert (data.name, data.kind, data.task, data.classes, data.test) == (
        "a",
        "picture",
        "classification",
        ("0", "1", "2"),
        None,
    )
    assert data.inputs.dtype == np.uint8
    np.testing.assert_array_equal(data.inputs, X)
    np.testing.assert_array_equal(data.targets, Y)


def test_packed_arrays_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=X, y=Y)
    np.testing.assert_array_equal(load("a", str(path)).inputs, X)


@pytest.mark.parametrize(
    ("names", "arguments"),
    [
        (("x", "y", "x_test", "y_test"), {}),
        (("pixels", "labels", "pixels_test", "labels_test"), {"inputs": "pixels", "targets": "labels"}),
        (
            ("x_train", "y_train", "x_test", "y_test"),
            {"inputs": "x_train", "targets": "y_train", "test_inputs": "x_test", "test_targets": "y_test"},
        ),
    ],
    ids=["usual", "named", "all named"],
)
def test_test_arrays_become_the_test_set(tmp_path: Path, names: tuple[str, ...], arguments: dict[str, Any]) -> None:
    data = read(tmp_path, arguments, **dict(zip(names, (X[:4], Y[:4], X[4:], Y[4:]), strict=True)))
    assert data.test is not None
    np.testing.assert_array_equal(data.test, [4, 5])
    np.testing.assert_array_equal(data.inputs, X)
    np.testing.assert_array_equal(data.targets, Y)


TARGETS: dict[str, tuple[Any, str | None, str, tuple[str, ...]]] = {
    "words": (np.array(["b", "a"] * 3), None, "classification", ("a", "b")),
    "truth values": (np.array([True, False] * 3), None, "classification", ("False", "True")),
    "numbers": (np.linspace(0, 1, 6), None, "regression", ()),
    "whole numbers said to be a regression": (Y, "regression", "regression", ()),
    "numbers said to be classes": (np.array([0.5, 1.0] * 3), "classification", "classification", ("0.5", "1.0")),
}


@pytest.mark.parametrize(("targets", "task", "expected", "classes"), TARGETS.values(), ids=TARGETS)
def test_the_targets_tell_the_task(
    tmp_path: Path, targets: Any, task: str | None, expected: str, classes: tuple[str, ...]
) -> None:
    data = read(tmp_path, {"task": task}, x=X, y=targets)
    assert (data.task, data.classes) == (expected, classes)
    assert data.targets.dtype == (np.int64 if classes else np.float32)


def test_a_regression_may_have_whole_numbers_beside_floats(tmp_path: Path) -> None:
    data = read(tmp_path, {"task": "regression"}, x=X, y=Y, x_test=X, y_test=Y + 0.5)
    assert data.targets.tolist() == [*Y, *(Y + 0.5)]


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "another name": ({"x": X, "labels": Y}, {}, "data.targets=y: no such array; allowed: x, labels"),
    "no such inputs": ({"x": X, "y": Y}, {"inputs": "z"}, "data.inputs=z: no such array; allowed: x, y"),
    "nothing": ({}, {}, "data.inputs=x: no such array; allowed: none, it is empty"),
    "objects": ({"x": np.array([[1, "a"]], dtype=object), "y": Y}, {}, "data.inputs=x: an array of objects, which"),
    "lengths": ({"x": X, "y": Y[:5]}, {}, "x has 6 entries but y 5"),
    "lengths of the test set": (
        {"x": X, "y": Y, "x_test": X, "y_test": Y[:5]},
        {},
        "data.path={path}: test has 6 inputs but 5 targets",
    ),
    "half a test set": (
        {"x": X, "y": Y, "x_test": X},
        {},
        "data.test_targets=y_test: no such array; allowed: x, y, x_",
    ),
    "no such test set": ({"x": X, "y": Y}, {"test_inputs": "t"}, "data.test_inputs=t: no such array; allowed: x, y"),
    "whole numbers beside floats": (
        {"x": X, "y": Y, "x_test": X, "y_test": Y + 0.5},
        {},
        "data.path={path}: the targets of train are whole numbers, those of test floats; must be the same",
    ),
    "words beside whole numbers": (
        {"x": X, "y": np.array(["a", "b"] * 3), "x_test": X, "y_test": Y},
        {"task": "classification"},
        "data.path={path}: the targets of train are words, those of test whole numbers; must be the same",
    ),
    "a class of the test set alone": (
        {"x": X, "y": Y % 2, "x_test": X, "y_test": Y},
        {},
        "data.path={path}: test has the class 2, which train has no example of",
    ),
    "another shape": (
        {"x": X, "y": Y, "x_test": X[:, :, :1], "y_test": Y},
        {},
        "data.path={path}: an input of train is (1, 2, 2), one of test (1, 1, 2)",
    ),
    "a single value": ({"x": X, "y": 3}, {}, "data.targets=y: a single value"),
    "words as inputs": ({"x": np.array([["a"]] * 6), "y": Y}, {}, "the inputs are <U1 (6, 1); they must be numbers"),
    "one class": ({"x": X, "y": np.zeros(6, dtype=int)}, {}, "data.path={path}: the targets are of one class only, 0"),
    "columns of targets": ({"x": X, "y": Y[:, None]}, {}, "data.path={path}: the targets have the shape (6, 1)"),
    "NaN as a target": ({"x": X, "y": np.full(6, np.nan)}, {}, "6 targets are missing or NaN"),
    "words as numbers": ({"x": X, "y": np.array(["a", "b"] * 3)}, {"task": "regression"}, "words cannot be"),
}


@pytest.mark.parametrize(("arrays", "arguments", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_learned_from_is_refused_in_one_line(
    tmp_path: Path, arrays: dict[str, Any], arguments: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        read(tmp_path, arguments, **arrays)
    assert reason.format(path=tmp_path / "a.npz") in str(refusal.value)
    assert str(refusal.value).startswith("data.")
    assert "\n" not in str(refusal.value)


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda raw: b"",
    "torn": lambda raw: raw[: len(raw) // 2],
    "a page instead": lambda raw: b"<html>not found</html>",
    "garbled": lambda raw: raw.replace(bytes(X.data), bytes(len(X.data))),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array(X), y=Y)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError, match=r"^data\.path=.*a\.npz: not (an npz file, as|a readable npz file \().*"):
        load("a", str(path))


def test_a_missing_file_and_one_of_a_single_array_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"data\.path=.*gone\.npz: no such file"):
        load("a", str(tmp_path / "gone.npz"))
    np.save(tmp_path / "one.npy", X)
    with pytest.raises(UsageError, match=r"one\.npy: not an npz file, as numpy\.savez writes it$"):
        load("a", str(tmp_path / "one.npy"))
