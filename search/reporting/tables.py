"""Results as tables: on the terminal, and in Markdown for MLflow's notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from search.records import Outcome, Params


@dataclass(frozen=True, kw_only=True)
class Row:
    """A contender's line: figures as (value, low, high)."""

    name: str
    members: int
    validation: tuple[float, float, float]
    test: tuple[float, float, float]
    champion: bool


def contenders_table(metric: str, rows: Sequence[Row]) -> Table:
    """Return the final comparison for the terminal."""
    table = Table(title=f"{metric} with 95 % intervals; validation is cross-fitted; * the champion, chosen on it")
    table.add_column("contender")
    table.add_column("members", justify="right")
    for split in ("validation", "test"):
        table.add_column(split, justify="right")
    for row in rows:
        name = f"{row.name} *" if row.champion else row.name
        style = "bold" if row.champion else ""
        table.add_row(name, str(row.members), _figure(row.validation), _figure(row.test), style=style)
    return table


def contenders_markdown(metric: str, rows: Sequence[Row]) -> str:
    """Return the final comparison in Markdown."""
    lines = [f"| {metric} | members | validation | test |", "|---|---:|---:|---:|"]
    for row in rows:
        name = f"**{row.name}**" if row.champion else row.name
        lines.append(f"| {name} | {row.members} | {_figure(row.validation)} | {_figure(row.test)} |")
    return "\n".join(lines)


def trials_table(metric: str, outcomes: Sequence[Outcome], params: Mapping[int, Params]) -> Table:
    """Return the best trials with their parameters, for the terminal."""
    table = Table(title=f"best trials by {metric} on validation")
    for name in ("trial", metric, "epoch", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("parameters")
    for outcome in outcomes:
        value = "" if outcome.value is None else f"{outcome.value:.4f}"
        words = in_words(params[outcome.number])
        table.add_row(str(outcome.number), value, f"{outcome.best_step}", f"{outcome.seconds:.1f}", words)
    return table


def in_words(params: Params) -> str:
    """Return parameters as a line of key=value."""
    return "  ".join(f"{key}={_value(value)}" for key, value in params.items())


def _figure(figure: tuple[float, float, float]) -> str:
    value, low, high = figure
    if max(abs(value), abs(low), abs(high)) >= 10:
        return f"{value:.4g} [{low:.3g}, {high:.3g}]"
    return f"{value:.4f} [{low:.3f}, {high:.3f}]"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
