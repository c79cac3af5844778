"""Arrays in NumPy's `.npz` files."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from search.errors import UsageError
from search.train.data.arrays import Array, Examples, Task
from search.train.data.pairs import Pair, examples_of_pair, with_test


def load(
    name: str,
    path: str,
    inputs: str = "x",
    targets: str = "y",
    test_inputs: str | None = None,
    test_targets: str | None = None,
    task: Task | None = None,
) -> Examples:
    """Return the arrays called `inputs`, numbers (N, C, H, W), (N, C, L) or (N, F), and `targets` (N,).

    The test set is read from `test_inputs` and `test_targets`; null: from `<inputs>_test` and `<targets>_test` where
    they are there. Without `task`, words, truth values and whole numbers are classes, other numbers a regression.
    Nothing is unpickled. Raises UsageError where the file or an array is missing or cannot be learned from.
    """
    train = {"inputs": inputs, "targets": targets}
    test = {"test_inputs": test_inputs or f"{inputs}_test", "test_targets": test_targets or f"{targets}_test"}
    with _opened(path) as file:
        pair = _pair(file, train)
        has_test = test_inputs is not None or test_targets is not None or set(test.values()) & file.keys()
        own = _pair(file, test) if has_test else None
    key = f"data.path={path}"
    if own is not None:
        return with_test(pair, own, name, key, task)
    if len(pair[0]) != len(pair[1]):
        raise UsageError(f"{key}: {inputs} has {len(pair[0])} entries but {targets} {len(pair[1])}")
    return examples_of_pair(pair, name, key, task)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Mapping[str, Array]]:
    """Open the file; raise UsageError where it, or what is read of it meanwhile, is no such file."""
    if not Path(path).is_file():
        raise UsageError(f"data.path={path}: no such file")
    if not zipfile.is_zipfile(path):
        raise UsageError(f"data.path={path}: not an npz file, as numpy.savez writes it")
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"data.path={path}: not a readable npz file ({' '.join(str(error).split())})") from error


def _pair(file: Mapping[str, Array], names: Mapping[str, str]) -> Pair:
    """Return the inputs and the targets that `names` gives by the key of the configuration."""
    one, other = (_array(file, key, name) for key, name in names.items())
    return one, other


def _array(file: Mapping[str, Array], key: str, name: str) -> Array:
    if name not in file:
        raise UsageError(f"data.{key}={name}: no such array; allowed: {', '.join(file) or 'none, it is empty'}")
    try:
        array = file[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise UsageError(
            f"data.{key}={name}: an array of objects, which only unpickling could read; save it as numbers or words"
        ) from error
    if not array.ndim:
        raise UsageError(f"data.{key}={name}: a single value; must have an entry an example")
    return array
