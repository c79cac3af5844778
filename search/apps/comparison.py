"""The searches of a multirun side by side, from what each of them stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from search.apps.report import rows_of
from search.post.results import Results
from search.reporting.progress import SteadyConsole
from search.reporting.tables import SearchRow, searches_table
from search.sweep.journal import holds_study
from search.sweep.reading import read_study


def compare(folders: Sequence[Path]) -> None:
    """Print a line for each search that stands in one of the folders."""
    rows = [_row(folder) for folder in folders if holds_study(folder)]
    if len(rows) > 1:
        SteadyConsole(soft_wrap=True).print(searches_table(rows))


def _row(folder: Path) -> SearchRow:
    study = read_study(folder)
    values = [trial.value for trial in study.trials if trial.value is not None]
    results = Results.load(folder)
    return SearchRow(
        name=folder.name,
        trials=len(study.trials),
        metric=study.metric,
        best=study.best_value if values else None,
        champion=next((row for row in rows_of(results) if row.champion), None) if results else None,
    )
