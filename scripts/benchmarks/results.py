"""What a benchmark finds: flat records, which are shown as a table or written as JSON."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

OURS = "search"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One figure. `metric` ends with its unit where it has one, `system` says whose figure it is."""

    bench: str
    case: str
    system: str
    metric: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a figure should be: `most` or `least`, in every case whose name begins with `case`."""

    metric: str
    system: str = OURS
    case: str = ""
    most: float | None = None
    least: float | None = None

    def concerns(self, record: Record) -> bool:
        """Tell whether the record is a figure that the goal is about."""
        return (self.metric, self.system) == (record.metric, record.system) and record.case.startswith(self.case)

    def met_by(self, record: Record) -> bool:
        """Tell whether the record's figure is as it should be; NaN never is."""
        above = self.least is None or record.value >= self.least
        below = self.most is None or record.value <= self.most
        return above and below

    def describe(self) -> str:
        """Return the goal in words, e.g. `<= 1.3`."""
        parts = ((">=", self.least), ("<=", self.most))
        return " ".join(f"{sign} {bound:g}" for sign, bound in parts if bound is not None)


def against(records: Sequence[Record], metric: str, peer: str) -> list[Record]:
    """Return our figure divided by the peer's, for every case in which both have one."""
    values = {(r.case, r.system): r.value for r in records if r.metric == metric}
    benches = {r.case: r.bench for r in records if r.metric == metric}
    return [
        Record(
            bench=bench,
            case=case,
            system=f"{OURS} / {peer}",
            metric=metric,
            value=values[case, OURS] / values[case, peer],
        )
        for case, bench in benches.items()
        if (case, OURS) in values and values.get((case, peer))
    ]


def show(console: Console, records: Sequence[Record], goals: Sequence[Goal] = ()) -> None:
    """Print the records: a row a case and system, a column a metric, each figure with its goal where there is one."""
    for bench in dict.fromkeys(record.bench for record in records):
        console.print(_table(bench, [record for record in records if record.bench == bench], goals))


def _table(bench: str, records: Sequence[Record], goals: Sequence[Goal]) -> Table:
    table = Table(title=bench, title_justify="left", min_width=60)
    metrics = list(dict.fromkeys(record.metric for record in records))
    table.add_column("case")
    table.add_column("system")
    for metric in metrics:
        table.add_column(metric, justify="right")
    found = {(record.case, record.system, record.metric): record for record in records}
    last = ""
    for case in dict.fromkeys(record.case for record in records):
        for system in dict.fromkeys(record.system for record in records if record.case == case):
            cells = (found.get((case, system, metric)) for metric in metrics)
            table.add_row("" if case == last else case, system, *(_cell(cell, goals) for cell in cells))
            last = case
    return table


def _cell(record: Record | None, goals: Sequence[Goal]) -> str:
    if record is None:
        return ""
    text = shown_number(record.value)
    goal = next((goal for goal in goals if goal.concerns(record)), None)
    if goal is None:
        return text
    return f"{text} ({goal.describe()} {'[green]met[/]' if goal.met_by(record) else '[red]missed[/]'})"


def shown_number(value: float) -> str:
    """Return the number with four digits that count, large ones in full."""
    if abs(value) < 1e6 and value == round(value):
        return f"{value:.0f}"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def write(path: Path, records: Sequence[Record]) -> None:
    """Write the records as a list of JSON objects."""
    path.write_text(json.dumps([asdict(record) for record in records], indent=1) + "\n")


def read(path: Path) -> list[Record]:
    """Read what `write` wrote."""
    return [Record(**fields) for fields in json.loads(path.read_text())]


def median(runs: Sequence[Sequence[Record]]) -> list[Record]:
    """Return each figure's median over runs of one benchmark, in the order of the first run."""
    values: dict[tuple[str, str, str, str], list[float]] = {}
    for record in (record for run in runs for record in run):
        values.setdefault(_KEY(record), []).append(record.value)
    return [
        Record(bench=bench, case=case, system=system, metric=metric, value=sorted(found)[len(found) // 2])
        for (bench, case, system, metric), found in values.items()
    ]


_KEY = operator.attrgetter("bench", "case", "system", "metric")
