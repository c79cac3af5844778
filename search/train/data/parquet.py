"""Tables in Parquet files."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from search.train.data.arrays import Examples, Task
from search.train.data.frame import Columns, examples_of_table, read_table


def load(name: str, path: str, target: str, drop: Sequence[str] = (), task: Task | None = None) -> Examples:
    """Read a Parquet file, or a folder of them; every column but `target` and `drop` becomes input.

    Without `task`, the target tells it as `Columns` says; an index that pandas stored is no column. Raises UsageError
    where the file or a column is missing or the target has gaps.
    """
    table = read_table(path, pd.read_parquet, "Parquet")
    return examples_of_table(table, name, path, Columns(target=target, drop=drop, task=task))
