"""Fashion-MNIST (Xiao et al. 2017) from its four IDX files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from search.errors import UsageError
from search.train.data.arrays import Array, Examples

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_IDX_UINT8 = 8


def load(name: str, root: str, limit: int | None = None) -> Examples:
    """Return 60,000 + 10,000 pictures (N, 1, 28, 28), uint8, the latter as the test set.

    `limit` keeps the first so many training examples. Raises UsageError where a file is missing or no IDX file.
    """
    train_x, train_y = _read(root, "train-images-idx3-ubyte"), _read(root, "train-labels-idx1-ubyte")
    test_x, test_y = _read(root, "t10k-images-idx3-ubyte"), _read(root, "t10k-labels-idx1-ubyte")
    train_x, train_y = train_x[:limit], train_y[:limit]
    return Examples(
        name=name,
        inputs=np.concatenate([train_x, test_x])[:, None],
        targets=np.concatenate([train_y, test_y]).astype(np.int64),
        task="classification",
        classes=CLASSES,
        test=np.arange(len(train_y), len(train_y) + len(test_y)),
    )


def _read(root: str, stem: str) -> Array:
    for path in (Path(root) / f"{stem}.gz", Path(root) / stem):
        if path.is_file():
            try:
                raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            except (OSError, EOFError, zlib.error) as error:
                raise UsageError(f"{path}: cannot be read ({error})") from error
            return _parse(raw, path)
    raise UsageError(f"data.root={root}: {stem}.gz is not there")


def _parse(raw: bytes, path: Path) -> Array:
    """Read an IDX file: two zero bytes, the type, the number of dimensions, their sizes (big-endian), the values."""
    num_dims = raw[3] if len(raw) > 4 else 0
    start = 4 + 4 * num_dims
    shape = tuple(int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(num_dims))
    if raw[:3] != bytes((0, 0, _IDX_UINT8)) or not shape or len(raw) - start != int(np.prod(shape)):
        raise UsageError(f"{path}: not a whole IDX file of bytes")
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)
