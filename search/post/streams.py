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
from search.train.data.arrays import Array
from search.train.data.table import TableEncoder, without_decimals

_ROWS = 10_000
"""Of a table at a time."""
_EXAMPLES = 1024
"""Of an array at a time."""

Write = Callable[[pd.DataFrame], None]


def tables(path: Path, encoder: TableEncoder) -> Iterator[pd.DataFrame]:
    """Yield the rows of a CSV or Parquet file, or of a folder of the latter, a piece at a time.

    Words stay as they are written, also where a piece of them looks like numbers. Raises UsageError for no such file
    and for one without rows.
    """
    rows = 0
    with _read(path):
        for piece in _from_csv(path, encoder) if path.suffix == ".csv" else _from_parquet(path):
            if len(piece):
                yield piece
            rows += len(piece)
    _require_rows(path, rows)


def arrays(path: Path, name: str) -> Iterator[Array]:
    """Yield the examples of an npy file, or of an npz file's only array or the one called `name`, a piece at a time.

    An npz file's array is read whole. Nothing is unpickled. Raises UsageError for no such file or
    array, and for one without examples.
    """
    with _read(path):
        array = _from_npz(path, name) if path.suffix == ".npz" else np.load(path, mmap_mode="r", allow_pickle=False)
        if not array.ndim or array.dtype.kind not in "biuf":
            raise ValueError(f"holds {array.dtype} {array.shape}; must be numbers (N, ...)")
        for start in range(0, len(array), _EXAMPLES):
            yield array[start : start + _EXAMPLES]
    _require_rows(path, len(array))


def _from_csv(path: Path, encoder: TableEncoder) -> Iterator[pd.DataFrame]:
    words: dict[Any, Any] = {name: str for name, known in encoder.columns if known is not None}
    with pd.read_csv(path, chunksize=_ROWS, dtype=words) as pieces:
        yield from pieces


def _from_parquet(path: Path) -> Iterator[pd.DataFrame]:
    for batch in pyarrow.dataset.dataset(path, partitioning="hive").to_batches(batch_size=_ROWS):
        yield without_decimals(batch.to_pandas())


def _require_rows(path: Path, rows: int) -> None:
    if not rows:
        raise UsageError(f"predict.input={path}: has no rows")


def _from_npz(path: Path, name: str) -> Array:
    with np.load(path, allow_pickle=False) as file:
        names = list(file)
        if name not in names and len(names) != 1:
            raise ValueError(f"holds {', '.join(names) or 'no array'}; must hold {name}, or one array alone")
        array: Array = file[name if name in names else names[0]]
    return array


@contextlib.contextmanager
def _read(path: Path) -> Iterator[None]:
    """Raise UsageError where what is read meanwhile is no such file, or not one of that kind."""
    if not path.exists():
        raise UsageError(f"predict.input={path}: no such file")
    try:
        yield
    except UsageError:
        raise
    except (OSError, EOFError, ValueError, pyarrow.ArrowException) as error:
        raise UsageError(f"predict.input={path}: not a readable file ({' '.join(str(error).split())})") from error


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
