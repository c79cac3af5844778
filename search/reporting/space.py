"""What a search would do, for the terminal: its space as a tree, the trials it begins with, what it may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from search.records import Params, ParamValue
from search.reporting.tables import in_words
from search.space import Branch, Dimension, Space, branches, num_points

_INDENT = "  "
_SCALES = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A trial that would run: its parameters as people see them, and who chose them."""

    number: int
    chosen_by: str
    params: Params


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What training takes, as far as it was measured.

    `epochs_per_trial` counts those that a pruner left; None: not known. `bytes_per_trial` is what a trial with its
    weights takes on disk.
    """

    seconds_per_epoch: float
    bytes_per_trial: float
    epochs_per_trial: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is still to be trained: so many trials of at most so many epochs, on so many workers if that is known."""

    trials: int
    epochs: int
    workers: int | None
    kept: int
    """How many of all trials keep their weights."""


def space_table(space: Space, named: Mapping[str, str]) -> Table:
    """Return the dimensions, what an option brings under it; `named` are the options that do not vary."""
    fixed = ", ".join(f"{group}={option}" for group, option in named.items())
    number = _counted(len(space.dimensions), "dimension")
    table = Table(title=f"{number}; with {fixed}" if fixed else number)
    for column in ("name", "type", "values", "default"):
        table.add_column(column)
    for branch in branches(space.dimensions):
        table.add_row(*map(escape, _row(branch)), style="bold" if branch.option else "")
    return table


def grid_line(space: Space) -> str:
    """Return the number of combinations, or which dimensions have no end of values."""
    points = num_points(space.dimensions)
    if points is not None:
        return f"grid: {_counted(points, 'point')}"
    endless = ", ".join(d.name for d in space.dimensions if d.size is None)
    return f"grid: continuous in {endless} (choices=[...] or a step makes one finite)"


def samples_table(samples: Sequence[Sample]) -> Table:
    """Return the trials that a search begins with."""
    table = Table(title="the first trials")
    table.add_column("trial", justify="right")
    table.add_column("from")
    table.add_column("parameters")
    for sample in samples:
        table.add_row(str(sample.number), sample.chosen_by, escape(in_words(sample.params)))
    return table


def cost_line(pace: Pace | None, plan: Plan) -> str:
    """Return what is still to be trained may take, in time and on disk."""
    if pace is None:
        return "cost: known after stages=[preflight], or the first trials; ask again then"
    disk = f"{in_bytes(plan.kept * pace.bytes_per_trial)} on disk for {_counted(plan.kept, 'trial')} with weights"
    if not plan.trials:
        return f"cost: nothing is left to train; {disk}"
    measured = f"{in_time(pace.seconds_per_epoch)} an epoch"
    bound = "at most"
    epochs: float = plan.epochs
    if pace.epochs_per_trial is not None:
        bound, epochs = "about", pace.epochs_per_trial
        measured += f", {epochs:.3g} epochs a trial"
    seconds = plan.trials * epochs * pace.seconds_per_epoch / (plan.workers or 1)
    workers = _counted(plan.workers or 1, "worker")
    left = _counted(plan.trials, "trial")
    return f"cost: {bound} {in_time(seconds)} for {left} on {workers} ({measured}); about {disk}"


def in_time(seconds: float) -> str:
    """Return a duration as people say it, e.g. `1.5 h`, `4 min`, `0.21 s`."""
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} h"
    if seconds >= 100:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def in_bytes(number: float) -> str:
    """Return a size on disk, e.g. `1.2 MB`."""
    for unit, size in _SCALES:
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return _counted(round(number), "byte")


def _row(branch: Branch) -> tuple[str, str, str, str]:
    dimension, indent = branch.dimension, _INDENT * branch.depth
    if branch.option is not None:
        return f"{indent}{dimension.path}={branch.option[1]}", "", "", ""
    return f"{indent}{dimension.path}", _kind(dimension), _values(dimension), _value(dimension.default)


def _kind(dimension: Dimension) -> str:
    if dimension.choices:
        return "choice"
    kind = "int" if dimension.integer else "float"
    return f"{kind}, log" if dimension.log else kind


def _values(dimension: Dimension) -> str:
    return dimension.describe().removeprefix("one of ").removesuffix(", log")


def _value(value: ParamValue) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
