import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.errors import UsageError
from search.train.data import digits
from search.train.data.fashion_mnist import CLASSES, load

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array: Any) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + bytes(array.astype(np.uint8).tobytes())


@pytest.fixture
def arrays() -> list[Any]:
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (10, 28, 28))
    labels = generator.integers(0, 10, 10)
    return [pictures[:7], labels[:7], pictures[7:], labels[7:]]


def write(root: Path, arrays: list[Any], *, packed: bool) -> str:
    for name, array in zip(FILES, arrays, strict=True):
        if packed:
            (root / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (root / name).write_bytes(idx(array))
    return str(root)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "unpacked"])
def test_pictures_and_labels_are_read_and_the_test_set_kept(tmp_path: Path, arrays: list[Any], packed: bool) -> None:
    data = load("f", write(tmp_path, arrays, packed=packed))
    assert data.inputs.shape == (10, 1, 28, 28)
    assert data.inputs.dtype == np.uint8
    assert (data.task, data.classes, data.num_outputs) == ("classification", CLASSES, 10)
    assert data.test is not None
    np.testing.assert_array_equal(data.inputs[:7, 0], arrays[0])
    np.testing.assert_array_equal(data.targets[:7], arrays[1])
    np.testing.assert_array_equal(data.inputs[data.test, 0], arrays[2])
    np.testing.assert_array_equal(data.targets[data.test], arrays[3])


def test_a_limit_leaves_the_test_set_whole(tmp_path: Path, arrays: list[Any]) -> None:
    data = load("f", write(tmp_path, arrays, packed=True), limit=4)
    assert len(data) == 7
    assert data.test is not None
    np.testing.assert_array_equal(data.inputs[:4, 0], arrays[0][:4])
    np.testing.assert_array_equal(data.targets[data.test], arrays[3])


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path: Path, arrays: list[Any], name: str) -> None:
    root = write(tmp_path, arrays, packed=True)
    (tmp_path / f"{name}.gz").unlink()
    with pytest.raises(UsageError, match=rf"data\.root={root}: {name}\.gz is not there"):
        load("f", root)


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: gzip.compress(b""),
    "header only": lambda raw: gzip.compress(raw[:4]),
    "too short": lambda raw: gzip.compress(raw[:-1]),
    "too long": lambda raw: gzip.compress(raw + b"x"),
    "other numbers": lambda raw: gzip.compress(raw[:2] + b"\x0d" + raw[3:]),
    "no dimensions": lambda raw: gzip.compress(bytes((0, 0, 8, 0)) + raw[4:]),
    "a page instead": lambda raw: gzip.compress(b"<html>not found</html>"),
    "not packed": lambda raw: b"<html>not found</html>",
    "torn": lambda raw: gzip.compress(raw)[:-9],
    "nothing": lambda raw: b"",
    "garbled": lambda raw: gzip.compress(raw)[:10] + b"\xff" * 40,
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named(tmp_path: Path, arrays: list[Any], damage: Callable[[bytes], bytes]) -> None:
    root = write(tmp_path, arrays, packed=True)
    path = tmp_path / f"{FILES[0]}.gz"
    path.write_bytes(damage(idx(arrays[0])))
    with pytest.raises(UsageError) as refusal:
        load("f", root)
    assert str(path) in str(refusal.value)
    assert "not a whole IDX file" in str(refusal.value) or "cannot be read" in str(refusal.value)


def test_more_pictures_than_labels_are_refused(tmp_path: Path, arrays: list[Any]) -> None:
    root = write(tmp_path, [arrays[0], arrays[1][:-1], *arrays[2:]], packed=True)
    with pytest.raises(UsageError, match=r"10 inputs but 9 targets"):
        load("f", root)


def test_the_bundled_digits_are_pictures_of_ten_classes() -> None:
    data = digits.load("digits")
    assert (len(data), data.inputs.shape, data.inputs.dtype) == (1797, (1797, 1, 8, 8), np.uint8)
    assert (int(data.inputs.min()), int(data.inputs.max())) == (0, 16)
    assert np.bincount(data.targets).min() > 170
    assert data.num_outputs == 10
    assert data.test is None
    assert data.digest() == digits.load("again").digest()
