"""Rows of a table as numbers: number columns as they are, words as one-hot columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from search.errors import UsageError
from search.train.data.arrays import Array, Examples

MAX_CATEGORIES = 100
_UNUSABLE = {
    **dict.fromkeys(("date", "datetime", "datetime64"), "dates"),
    **dict.fromkeys(("time", "timedelta", "timedelta64", "period", "interval"), "times or durations"),
    "bytes": "bytes",
    "complex": "complex numbers",
}
"""What is neither words nor numbers, by pandas' name of it."""


@dataclass(frozen=True, kw_only=True)
class TableEncoder:
    """Turns a table into float32 (N, features); plain enough to be stored as JSON beside a model.

    `columns` are the table's columns in order, each with its categories, or None for a column of numbers. Missing
    numbers stay NaN (the model replaces them by the training mean); words that were never seen are all zeros.
    """

    columns: tuple[tuple[str, tuple[str, ...] | None], ...]

    @classmethod
    def fit(cls, table: pd.DataFrame) -> TableEncoder:
        """Learn the columns; raise UsageError for one of words with too many different ones, or of neither."""
        columns: list[tuple[str, tuple[str, ...] | None]] = []
        for name in table.columns:
            column = table[name]
            if pd.api.types.is_numeric_dtype(column):
                columns.append((str(name), None))
                continue
            if (kind := unusable(column)) is not None:
                raise UsageError(
                    f"column {name}: of {kind}; must be numbers or words, or be left out with data.drop=[{name}]"
                )
            words = tuple(sorted(column.dropna().astype(str).unique()))
            if len(words) > MAX_CATEGORIES:
                raise UsageError(
                    f"column {name}: {len(words)} different words, at most {MAX_CATEGORIES} become one-hot columns; "
                    f"leave it out with data.drop=[{name}]"
                )
            columns.append((str(name), words))
        return cls(columns=tuple(columns))

    def encode(self, table: pd.DataFrame) -> Array:
        """Return the rows as float32 (N, features); raise ValueError for a column that is missing or not of numbers."""
        missing = [name for name, _ in self.columns if name not in table.columns]
        if missing:
            raise ValueError(f"column {missing[0]} is missing; needed: {', '.join(name for name, _ in self.columns)}")
        parts = []
        for name, words in self.columns:
            if words is None:
                parts.append(_numbers(table[name])[:, None])
            else:
                values = table[name].astype(str).to_numpy()
                parts.append((values[:, None] == np.array(words, dtype=object)[None]).astype(np.float32))
        return np.concatenate(parts, axis=1)

    def known(self, rows: Array) -> tuple[TableEncoder, Array]:
        """Return the encoder without words that none of the encoded rows has, and the indices of the columns kept.

        A word that training never saw would otherwise excite weights that were never trained.
        """
        columns: list[tuple[str, tuple[str, ...] | None]] = []
        kept: list[int] = []
        start = 0
        for name, words in self.columns:
            if words is None:
                columns.append((name, None))
                kept.append(start)
                start += 1
                continue
            seen = [i for i in range(len(words)) if rows[:, start + i].any()]
            columns.append((name, tuple(words[i] for i in seen)))
            kept += [start + i for i in seen]
            start += len(words)
        return TableEncoder(columns=tuple(columns)), np.array(kept, dtype=np.int64)

    def decode(self, rows: Array) -> pd.DataFrame:
        """Return encoded rows (N, features) as a table again; words that were not known become missing."""
        table: dict[str, Any] = {}
        start = 0
        for name, words in self.columns:
            width = 1 if words is None else len(words)
            part = rows[:, start : start + width]
            start += width
            if words is None:
                table[name] = part[:, 0].astype(np.float64)
            else:
                column = np.array([*words, None], dtype=object)
                known = part.argmax(axis=1) if words else np.zeros(len(rows), dtype=np.int64)
                table[name] = column[np.where(part.any(axis=1), known, len(words))]
        return pd.DataFrame(table)

    def to_plain(self) -> dict[str, Any]:
        """Return the encoder as lists and words."""
        return {"columns": [[name, None if words is None else list(words)] for name, words in self.columns]}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> TableEncoder:
        """Return the encoder that `to_plain` described."""
        return cls(columns=tuple((name, None if words is None else tuple(words)) for name, words in plain["columns"]))


def _numbers(column: pd.Series[Any]) -> Array:
    try:
        return column.to_numpy(dtype=np.float32, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise ValueError(f"column {column.name}: must be numbers ({' '.join(str(error).split())})") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """Which of `number` columns of a table each feature is of, int64 (F,), and whether it indicates a word, bool."""

    of: Array
    words: Array
    number: int

    def only(self, features: Array) -> Encoded:
        """Return the same of these features alone."""
        columns, of = np.unique(self.of[features], return_inverse=True)
        return Encoded(of=of, words=self.words[features], number=len(columns))


def encoded(examples: Examples) -> Encoded:
    """Return what the features of a table's examples are of; each is a column of its own where nothing is known."""
    size = examples.inputs.shape[1]
    columns = () if examples.table is None else TableEncoder.from_plain(examples.table).columns
    widths = [1 if words is None else len(words) for _, words in columns]
    if sum(widths) != size:
        return Encoded(of=np.arange(size), words=np.zeros(size, dtype=bool), number=size)
    of, words = (np.repeat(values, widths) for values in (range(len(columns)), [w is not None for _, w in columns]))
    return Encoded(of=of, words=words, number=len(columns)).only(np.arange(size))  # a column may have no word left


def unusable(column: pd.Series[Any]) -> str | None:
    """Return what a column holds where that is neither words nor numbers."""
    if column.dtype == object and column.map(lambda value: isinstance(value, list | tuple | dict | np.ndarray)).any():
        return "lists"
    return _UNUSABLE.get(pd.api.types.infer_dtype(column, skipna=True))


def without_decimals(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with exact decimals, as Parquet and databases have them, as floats."""
    kinds = {name: pd.api.types.infer_dtype(table[name], skipna=True) for name in table if table[name].dtype == object}
    return table.astype({name: np.float64 for name, kind in kinds.items() if kind == "decimal"})


def only_known_words(examples: Examples, train: Array) -> Examples:
    """Return a table's examples with one-hot columns for the words of the training rows alone."""
    if examples.table is None:
        return examples
    encoder, kept = TableEncoder.from_plain(examples.table).known(examples.inputs[train])
    return dataclasses.replace(examples, inputs=examples.inputs[:, kept], table=encoder.to_plain())
