"""Results as tables: on the terminal, and in Markdown for MLflow's notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from search.records import Outcome, Params

_LARGE = 10
"""From here on decimals say nothing."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A contender's line: figures as (value, low, high); `gain` is over the single best, on test.

    `members` is None for a mean of figures, which is no ensemble.
    """

    name: str
    members: int | None
    validation: tuple[float, float, float] | None
    test: tuple[float, float, float]
    gain: tuple[float, float, float] | None
    champion: bool


def contenders_table(metric: str, rows: Sequence[Row]) -> Table:
    """Return the final comparison for a terminal of 80 columns; the Markdown has every interval."""
    gain = "gain on test over the single best, same examples, ~ within noise"
    table = Table(
        title=f"{metric}; validation is cross-fitted, * the champion, chosen on it; test with 95 % intervals; {gain}"
    )
    table.add_column("contender", no_wrap=True)
    for column in ("members", "validation", "test", "gain"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        name = f"{row.name} *" if row.champion else row.name
        validation = "trained on" if row.validation is None else _number(row.validation[0])
        cells = (name, _count(row.members), validation, _figure(row.test), _in_short(row.gain))
        table.add_row(*cells, style="bold" if row.champion else "")
    return table


def _count(members: int | None) -> str:
    return "" if members is None else str(members)


def _in_short(gain: tuple[float, float, float] | None) -> str:
    if gain is None:
        return ""
    value, low, high = gain
    return f"{value:+{_form(value)}}{' ~' if low <= 0 <= high else '  '}"


def _number(value: float) -> str:
    return f"{value:{_form(value)}}"


@dataclass(frozen=True, kw_only=True)
class SearchRow:
    """A search of a multirun: its best trial's figure, and its champion, where there is one."""

    name: str
    trials: int
    metric: str
    best: float | None
    champion: Row | None


def searches_table(rows: Sequence[SearchRow]) -> Table:
    """Return the searches of a multirun side by side, for the terminal."""
    table = Table(title="the searches of this multirun: best trial on validation, champion on test")
    table.add_column("search", overflow="fold")
    for name in ("trials", "best trial", "champion"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        best = "" if row.best is None else f"{row.metric} {row.best:.4f}"
        table.add_row(row.name, str(row.trials), best, "" if row.champion is None else _figure(row.champion.test))
    return table


def contenders_markdown(metric: str, rows: Sequence[Row]) -> str:
    """Return the final comparison in Markdown."""
    lines = [f"| {metric} | members | validation | test | gain over the single best |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        name = f"**{row.name}**" if row.champion else row.name
        lines.append(f"| {name} | {_count(row.members)} | {' | '.join(_contender_cells(row))} |")
    return "\n".join(lines)


def _contender_cells(row: Row) -> tuple[str, str, str]:
    gain = "" if row.gain is None else _gain(row.gain[0], row.gain[1:])
    return _figure(row.validation), _figure(row.test), gain


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    """A line of an ablation: `spread` is (mean, standard deviation), `interval` that of the gain."""

    name: str
    what: str
    spread: tuple[float, float | None] | None
    pairs: int
    gain: float | None
    interval: tuple[float, float] | None
    verdict: str


def ablation_table(metric: str, base: str, seeds: int, rows: Sequence[AblationRow]) -> Table:
    """Return what each change to the base was worth, for the terminal."""
    title = f"one change at a time to {base}: {metric} on validation over {seeds} seeds, gains with 95 % intervals"
    return _compared(title, ("change", "what"), metric, rows)


def ablation_markdown(metric: str, rows: Sequence[AblationRow]) -> str:
    """Return what each change was worth in Markdown."""
    return _compared_markdown(("change", "what"), metric, rows)


_REMATCHED = ("trial", "in the search")


def rematch_table(metric: str, seeds: int, rows: Sequence[AblationRow]) -> Table:
    """Return the best trials trained again, each compared with the first, for the terminal."""
    title = f"the best trials under {seeds} new seeds: {metric} on validation, gains with 95 % intervals"
    return _compared(title, _REMATCHED, metric, rows)


def rematch_markdown(metric: str, rows: Sequence[AblationRow]) -> str:
    """Return the best trials trained again in Markdown."""
    return _compared_markdown(_REMATCHED, metric, rows)


def _compared(title: str, about: tuple[str, str], metric: str, rows: Sequence[AblationRow]) -> Table:
    table = Table(title=title)
    for name in about:
        table.add_column(name)
    for name in ("pairs", metric, "gain"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _compared_markdown(about: tuple[str, str], metric: str, rows: Sequence[AblationRow]) -> str:
    lines = [f"| {' | '.join(about)} | pairs | {metric} | gain | verdict |", "|---|---|---:|---:|---:|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(_cells(row))} |" for row in rows)])


def _cells(row: AblationRow) -> tuple[str, ...]:
    return row.name, row.what, str(row.pairs or ""), _spread(row.spread), _gain(row.gain, row.interval), row.verdict


@dataclass(frozen=True, kw_only=True)
class DataRow:
    """A line of a curve against data size: `spread` as measured, (mean, standard deviation); what the law expects."""

    examples: str
    spread: tuple[float, float | None] | None
    expected: tuple[float, tuple[float, float] | None] | None


def data_table(metric: str, base: str, seeds: int, rows: Sequence[DataRow]) -> Table:
    """Return a metric by number of training examples, for the terminal."""
    table = Table(title=f"{base} on parts of the training data: {metric} on validation over {seeds} seeds")
    for name in _data_head(metric):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*_data_cells(row), style="" if row.spread is not None else "dim")
    return table


def data_markdown(metric: str, rows: Sequence[DataRow]) -> str:
    """Return a metric by number of training examples in Markdown."""
    lines = [f"| {' | '.join(_data_head(metric))} |", "|---:|---:|---:|"]
    return "\n".join([*lines, *(f"| {' | '.join(_data_cells(row))} |" for row in rows)])


def _data_head(metric: str) -> tuple[str, str, str]:
    return "training examples", metric, "the law, with a 95 % interval"


def _data_cells(row: DataRow) -> tuple[str, str, str]:
    if row.expected is None:
        return row.examples, _spread(row.spread), ""
    value, interval = row.expected
    return (
        row.examples,
        _spread(row.spread),
        _spread((value, None)) if interval is None else _figure((value, *interval)),
    )


def trials_table(metric: str, outcomes: Sequence[Outcome], params: Mapping[int, Params]) -> Table:
    """Return the best trials with their parameters, for the terminal; `metric` is a figure's name, and of what."""
    table = Table(title=f"best trials by {metric}")
    for name in ("trial", metric.partition(" ")[0], "epoch", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("parameters")
    ailing = any(outcome.diagnosis for outcome in outcomes)
    if ailing:
        table.add_column("diagnosis")
    for outcome in outcomes:
        value = "" if outcome.value is None else f"{outcome.value:.4f}"
        words = in_words(params[outcome.number])
        step = "" if outcome.best_step is None else str(outcome.best_step)  # one that never reported has none
        said = [outcome.diagnosis] if ailing else []
        table.add_row(str(outcome.number), value, step, f"{outcome.seconds:.1f}", words, *said)
    return table


def in_words(params: Params) -> str:
    """Return parameters as a line of key=value."""
    return "  ".join(f"{key}={_value(value)}" for key, value in params.items())


def _figure(figure: tuple[float, float, float] | None) -> str:
    if figure is None:
        return "none: trained on it"
    value, low, high = figure
    if max(abs(value), abs(low), abs(high)) >= _LARGE:
        return f"{value:.4g} [{low:.3g}, {high:.3g}]"
    return f"{value:.4f} [{low:.3f}, {high:.3f}]"


def _spread(spread: tuple[float, float | None] | None) -> str:
    if spread is None:
        return ""
    mean, deviation = spread
    form = _form(mean)
    return f"{mean:{form}}" if deviation is None else f"{mean:{form}} ± {deviation:{form}}"


def _gain(gain: float | None, interval: tuple[float, float] | None) -> str:
    if gain is None:
        return ""
    if interval is None:
        return f"{gain:+{_form(gain)}}"
    form = f"+{_form(*interval)}"
    return f"{gain:{form}} [{interval[0]:{form}}, {interval[1]:{form}}]"


def _form(*values: float) -> str:
    return ".4g" if max(map(abs, values)) >= _LARGE else ".4f"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
