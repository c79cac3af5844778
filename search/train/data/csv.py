"""Tables in CSV files."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from search.train.data.arrays import Examples, Task
from search.train.data.frame import Columns, examples_of_table, read_table


def load(name: str, path: str, target: str, drop: Sequence[str] = (), task: Task | None = None) -> Examples:
    """Read a table with a header line; every column but `target` and `drop` becomes input.

    Without `task`, the target tells it as `Columns` says. Raises UsageError where the file or a column is missing or
    the target has gaps.
    """
    table = read_table(path, pd.read_csv, "CSV")
    return examples_of_table(table, name, path, Columns(target=target, drop=drop, task=task))
