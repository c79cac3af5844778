"""Files of inputs that nobody has labelled yet, and of predictions: a piece at a time, so that memory is bounded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.dataset
import pyarrow.parquet

from search.errors import UsageError
from search.files import replacing
from search.train.data.arrays import Array, Examples
from search.train.data.more import like
from search.train.data.table import TableEncoder, without_decimals

_ROWS = 10_000
"""Of a table at a time."""
_EXAMPLES = 1024
"""Of an array at a time."""
_OF_TABLES, _OF_ARRAYS = (".csv", ".parquet"), (".npy", ".npz")
"""How names of files end."""

Write = Callable[[pd.DataFrame], None]


def inputs_in(path: Path, encoder: TableEncoder | None, *, name: str, key: str) -> Iterator[Array | pd.DataFrame]:
    """Yield the inputs of a file a piece at a time: rows of a table where there is an encoder for them, else arrays.

    Tables are CSV and Parquet files, and folders of the latter; words stay as they are written, also where a piece of
    them looks like numbers. Arrays are npy files, and an npz file's only array or the one called `name`, which is read
    whole; nothing is unpickled. Raises UsageError, which begins with the `key` that the file was given by, for no such
    file or array, one of another kind, and one without rows.
    """
    what, endings = ("arrays", _OF_ARRAYS) if encoder is None else ("tables", _OF_TABLES)
    if path.suffix not in endings and not path.is_dir():
        raise UsageError(f"{key}={path}: inputs are {what} here; must end in {' or '.join(endings)}")
    rows = 0
    with _read(path, key):
        for piece in _arrays(path, name) if encoder is None else _tables(path, encoder):
            if len(piece):
                yield piece
            rows += len(piece)
    if not rows:
        raise UsageError(f"{key}={path}: has no rows")


def whole(path: Path, examples: Examples, *, name: str, key: str) -> Array:
    """Return all inputs of a file as those of the examples are, (T, *shape) of the same type.

    Columns of a table that are no inputs, such as a target, are left out. Raises UsageError as `inputs_in` does, and
    for inputs that are not as the examples'.
    """
    encoder = None if examples.table is None else TableEncoder.from_plain(examples.table)
    pieces, shape = inputs_in(path, encoder, name=name, key=key), examples.inputs.shape[1:]
    try:
        return np.concatenate([like(shape, examples.inputs.dtype, _encoded(piece, encoder)) for piece in pieces])
    except ValueError as error:
        raise UsageError(f"{key}={path}: {error}") from error


def _encoded(piece: Array | pd.DataFrame, encoder: TableEncoder | None) -> Array:
    return encoder.encode(piece) if encoder is not None and isinstance(piece, pd.DataFrame) else np.asarray(piece)


def _tables(path: Path, encoder: TableEncoder) -> Iterator[pd.DataFrame]:
    return _from_csv(path, encoder) if path.suffix == ".csv" else _from_parquet(path)


def _arrays(path: Path, name: str) -> Iterator[Array]:
    array = _from_npz(path, name) if path.suffix == ".npz" else np.load(path, mmap_mode="r", allow_pickle=False)
    if not array.ndim or array.dtype.kind not in "biuf":
        raise ValueError(f"holds {array.dtype} {array.shape}; must be numbers (N, ...)")
    for start in range(0, len(array), _EXAMPLES):
        yield array[start : start + _EXAMPLES]


def _from_csv(path: Path, encoder: TableEncoder) -> Iterator[pd.DataFrame]:
    words: dict[Any, Any] = {name: str for name, known in encoder.columns if known is not None}
    with pd.read_csv(path, chunksize=_ROWS, dtype=words) as pieces:
        yield from pieces


def _from_parquet(path: Path) -> Iterator[pd.DataFrame]:
    for batch in pyarrow.dataset.dataset(path, partitioning="hive").to_batches(batch_size=_ROWS):
        yield without_decimals(batch.to_pandas())


def _from_npz(path: Path, name: str) -> Array:
    with np.load(path, allow_pickle=False) as file:
        names = list(file)
        if name not in names and len(names) != 1:
            raise ValueError(f"holds {', '.join(names) or 'no array'}; must hold {name}, or one array alone")
        array: Array = file[name if name in names else names[0]]
    return array


@contextlib.contextmanager
def _read(path: Path, key: str) -> Iterator[None]:
    """Raise UsageError where what is read meanwhile is no such file, or not one of that kind."""
    if not path.exists():
        raise UsageError(f"{key}={path}: no such file")
    try:
        yield
    except UsageError:
        raise
    except (OSError, EOFError, ValueError, pyarrow.ArrowException) as error:
        raise UsageError(f"{key}={path}: not a readable file ({' '.join(str(error).split())})") from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Write]:
    """Give what appends to a CSV or Parquet file; the file takes its place once all is written."""
    with replacing(path) as temporary, contextlib.ExitStack() as stack:
        yield _to_csv(temporary) if path.suffix == ".csv" else _to_parquet(temporary, stack)


def _to_csv(path: Path) -> Write:
    path.unlink(missing_ok=True)

    def write(frame: pd.DataFrame) -> None:
        frame.to_csv(path, mode="a", header=not path.exists(), index=False)

    return write


def _to_parquet(path: Path, stack: contextlib.ExitStack) -> Write:
    writer: Any = None

    def write(frame: pd.DataFrame) -> None:
        nonlocal writer
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        if writer is None:
            writer = stack.enter_context(pyarrow.parquet.ParquetWriter(path, table.schema))
        writer.write_table(table)

    return write
