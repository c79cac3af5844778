"""A table with a target column as examples, whatever kind of file it was read from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from search.errors import UsageError
from search.train.data.arrays import Examples, Task
from search.train.data.table import TableEncoder, unusable, without_decimals
from search.train.data.targets import numbered

_MAX_CLASSES_OF_NUMBERS = 20


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns of a table are for: `target` is predicted, `drop` is left out, all others are inputs.

    Without `task`, words, truth values and up to 20 different whole numbers are classes, other numbers a regression.
    """

    target: str
    drop: Sequence[str] = ()
    task: Task | None = None


def read_table(path: str, read: Callable[[Path], pd.DataFrame], kind: str) -> pd.DataFrame:
    """Return what `read` makes of a file; raise UsageError where it is missing, no file of that kind, or empty."""
    if not Path(path).exists():
        raise UsageError(f"data.path={path}: no such file")
    try:
        table = read(Path(path))
    except (ValueError, OSError) as error:  # UnicodeDecodeError and what pyarrow raises are ValueErrors
        raise UsageError(f"data.path={path}: not a readable {kind} file ({' '.join(str(error).split())})") from error
    if table.empty:
        raise UsageError(f"data.path={path}: has no rows")
    return table


def examples_of_table(table: pd.DataFrame, name: str, path: str, columns: Columns) -> Examples:
    """Return the rows as examples; raise UsageError where a column is missing or the target cannot be learned."""
    target, drop = columns.target, columns.drop
    for key, column in [("target", target), *(("drop", c) for c in drop)]:
        if column not in table.columns:
            allowed = ", ".join(map(str, table.columns))
            raise UsageError(f"data.{key}={column}: no such column; allowed: {allowed}")
    if table[target].isna().any():
        raise UsageError(f"data.target={target}: {int(table[target].isna().sum())} rows have no value; remove them")
    table = without_decimals(table)
    inputs = table.drop(columns=[target, *drop])
    if inputs.columns.empty:
        raise UsageError(f"data.path={path}: no column left beside the target {target}")
    encoder = TableEncoder.fit(inputs)
    if (kind := unusable(table[target])) is not None:
        raise UsageError(f"data.target={target}: a column of {kind}; must be words or numbers")
    targets, classes = numbered(
        table[target].to_numpy(), columns.task or _guess(table[target]), f"data.target={target}"
    )
    return Examples(
        name=name,
        inputs=encoder.encode(inputs),
        targets=targets,
        task="classification" if classes else "regression",
        classes=classes,
        columns={str(c): table[c].to_numpy() for c in table.columns},
        table=encoder.to_plain(),
    )


def _guess(column: pd.Series[Any]) -> Task:
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return "classification"
    whole = bool((column == column.round()).all())
    return "classification" if whole and column.nunique() <= _MAX_CLASSES_OF_NUMBERS else "regression"
