"""How long a free worker waits for its next job, with jobs of unequal length, beside Hydra's Optuna sweeper.

A quarter of the jobs take twenty times as long as the others; which ones is fixed by a seed. Each job notes when it
began and ended. The peer launches with joblib and as many processes as there are workers.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from scripts.benchmarks import ours
from scripts.benchmarks.environments import python_of, run_peer
from scripts.benchmarks.isolated import isolated
from scripts.benchmarks.results import OURS, Goal, Record
from scripts.benchmarks.statistics import Span, busy_share, longest_vacancy
from scripts.benchmarks.watching import progress
from search.records import Decision, Outcome, Paused, Report, TrialSpec, Work
from search.sweep.journal import Journal

PEER = "hydra"
SWEPT = "ours, of a Hydra application"
"""Between two jobs' functions Hydra prepares the next: its folder, logging and three files."""
BUSY, VACANT = "busy %", "longest vacancy ms"
GOALS = (Goal(metric=BUSY, least=95), Goal(metric=VACANT, most=50))
_LONG_SHARE, _LONG_FACTOR = 0.25, 20
_PEER_SECONDS = 600.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    parser.add_argument("--jobs", type=int, default=80, help="jobs, a quarter of them long")
    parser.add_argument("--seconds", type=float, default=0.05, help="how long a short job sleeps; a long one 20 times")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--seed", type=int, default=0, help="says which jobs are long")


def run(options: argparse.Namespace, console: Console) -> list[Record]:
    """Measure both sides in turn."""
    python_of(PEER, console)
    lengths = lengths_of(options.jobs, options.seconds, options.seed)
    mine = isolated(measure, lengths, options.workers, console.is_terminal)
    console.print(f"Hydra's Optuna sweeper, {options.jobs} jobs ...")
    settings = {"lengths": lengths, "workers": options.workers, "seed": options.seed}
    theirs = run_peer(PEER, "hydra_idle.py", {**settings, "sweeper": "optuna"}, console, seconds=_PEER_SECONDS)
    console.print(f"the same application with our sweeper, {options.jobs} jobs ...")
    swept = run_peer(None, "hydra_idle.py", {**settings, "sweeper": "ray_optuna"}, console, seconds=_PEER_SECONDS)
    return [
        record
        for system, jobs in ((OURS, mine), (SWEPT, _spans(swept)), (PEER, _spans(theirs)))
        for record in records_of(system, jobs, options.workers)
    ]


def _spans(jobs: Sequence[Sequence[float]]) -> list[Span]:
    return [(begin, end) for begin, end in jobs]


def lengths_of(jobs: int, seconds: float, seed: int) -> list[float]:
    """Return how long each job sleeps."""
    num_long = round(_LONG_SHARE * jobs)
    lengths = [seconds * _LONG_FACTOR] * num_long + [seconds] * (jobs - num_long)
    random.Random(seed).shuffle(lengths)
    return lengths


def records_of(system: str, jobs: list[Span], workers: int) -> list[Record]:
    """Return one side's figures."""
    figures = {BUSY: 100 * busy_share(jobs, workers), VACANT: 1000 * longest_vacancy(jobs, workers)}
    case = f"{len(jobs)} jobs, {workers} workers"
    return [Record(bench="idle", case=case, system=system, metric=k, value=v) for k, v in figures.items()]


def measure(lengths: list[float], workers: int, terminal: bool) -> list[Span]:
    """Return when our jobs began and ended."""
    console = Console(stderr=True, force_terminal=terminal)
    with ours.temporary_study() as folder, ours.on_ray(make_sleep, workers) as executor:
        journal = Journal(folder, maximize=True)
        with progress(console, "ours", len(lengths)) as advance:
            driver = ours.searching(
                journal,
                len(lengths),
                steps=1,
                config=lambda number, _: {"seconds": lengths[number], "reports": 1},
                watchers=[ours.Ended(lambda: advance(1))],
            )
            driver.run(executor)
        journal.close()
        notes = [(folder / "trials" / f"{number:05d}" / "span").read_text().split() for number in range(len(lengths))]
    return [(float(begin), float(end)) for begin, end in notes]


def make_sleep(equipment: Any) -> Callable[[Work, Callable[[Report], Decision]], Paused | Outcome]:
    """Return work that sleeps, notes when it did so, and reports once."""
    del equipment
    return _sleep


def _sleep(work: Work, report: Callable[[Report], Decision]) -> Paused | Outcome:
    assert isinstance(work, TrialSpec)
    begin = time.time()
    time.sleep(work.config["seconds"])
    Path(work.directory, "span").write_text(f"{begin} {time.time()}")
    return ours.noop(work, report)
