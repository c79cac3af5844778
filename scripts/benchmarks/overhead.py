"""Trials a second that do nothing but report ten times, without and with MLflow, beside Ray Tune.

Ours: the driver with its durable study, workers on Ray, the decision before each next report; with MLflow the time
runs until everything stands in its SQLite file. Ray Tune: class Trainables in reused actors, OptunaSearch, the same
reports, its own MLflow callback. The first trials, during which workers start, are not counted on either side.
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from scripts.benchmarks import ours
from scripts.benchmarks.environments import python_of, run_peer
from scripts.benchmarks.isolated import isolated
from scripts.benchmarks.results import OURS, Goal, Record, against, median
from scripts.benchmarks.statistics import steady_rate
from scripts.benchmarks.watching import progress
from search.space import Space
from search.sweep.journal import Journal
from search.tracking.outbox import MlflowTracker
from search.tracking.projection import Projection, store_uri
from search.tracking.tracker import SearchInfo

RATE = "trials/s"
PEER = "tune"
GOALS = (
    Goal(metric=RATE, system=f"{OURS} / {PEER}", case="without MLflow", least=7),
    Goal(metric=RATE, system=f"{OURS} / {PEER}", case="with MLflow", least=15),
)
_OURS_BY_PEER = {"without MLflow": 1, "with MLflow": 4}
"""How many trials of ours are run for each of the peer's, which takes a second over one with MLflow."""
_PEER_SECONDS = 1800.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    parser.add_argument("--trials", type=int, default=300, help="trials without MLflow, on both sides")
    parser.add_argument(
        "--trials-mlflow", type=int, default=60, help="the peer's trials with MLflow; ours are 4 times as many"
    )
    parser.add_argument("--reports", type=int, default=10, help="reports of each trial")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--warm-up", type=int, default=5, help="first trials that are not counted")
    parser.add_argument("--repeats", type=int, default=1, help="whole measurements, of which the medians are shown")


def run(options: argparse.Namespace, console: Console) -> list[Record]:
    """Measure both sides in turn."""
    python_of(PEER, console)
    records = median([_once(options, console) for _ in range(options.repeats)])
    return [*records, *against(records, RATE, PEER)]


def _once(options: argparse.Namespace, console: Console) -> list[Record]:
    found = []
    for case, trials in (("without MLflow", options.trials), ("with MLflow", options.trials_mlflow)):
        settings = {
            "reports": options.reports,
            "workers": options.workers,
            "warm_up": options.warm_up,
            "mlflow": case == "with MLflow",
        }
        mine = isolated(measure, settings | {"trials": trials * _OURS_BY_PEER[case]}, console.is_terminal)
        console.print(f"Ray Tune {case}, {trials} trials ...")
        theirs = run_peer(PEER, "tune_overhead.py", settings | {"trials": trials}, console, seconds=_PEER_SECONDS)
        found += [_record(case, OURS, mine), _record(case, PEER, theirs)]
    return found


def _record(case: str, system: str, rate: float) -> Record:
    return Record(bench="overhead", case=case, system=system, metric=RATE, value=rate)


def measure(settings: dict[str, Any], terminal: bool) -> float:
    """Return our trials a second; raise RuntimeError where a report is missing."""
    trials, reports, warm_up = settings["trials"], settings["reports"], settings["warm_up"]
    console = Console(stderr=True, force_terminal=terminal)
    space = Space.of(OmegaConf.create(ours.CONFIG))
    with ours.temporary_study() as folder, ours.on_ray(ours.make_noop, settings["workers"]) as executor:
        journal = Journal(folder, maximize=True)
        tracker = _tracker(journal) if settings["mlflow"] else None
        with progress(console, f"ours {'with' if tracker else 'without'} MLflow", trials) as advance:
            ended = ours.Ended(lambda: advance(1))
            driver = ours.searching(
                journal, trials, steps=reports, config=ours.configured(space, reports), watchers=[ended]
            )
            driver.run(executor)
        if tracker is not None and (problem := tracker.finish("FINISHED")):
            raise RuntimeError(f"not delivered: {problem}")
        end = time.perf_counter()
        journal.close()
        _require(ended.reports, trials * reports, "reports reached the driver")
        if tracker is not None:
            _require(points_in(folder / "mlflow.db"), trials * reports, "points stand in MLflow")
    return steady_rate(ended.times, warm_up, end)


def _tracker(journal: Journal) -> MlflowTracker:
    """Return an open tracker: MLflow's import and schema are starting up, too."""
    folder = journal.folder
    uri = store_uri(None, folder)
    info = SearchInfo(uid=journal.uid, name="bench", maximize=True, params={})
    tracker = MlflowTracker(lambda: Projection(uri, "bench", folder, info), journal.events, uri, folder)
    tracker.parent_run()
    return tracker


def points_in(database: Path) -> int:
    """Return how many points of the objective an MLflow database holds."""
    with sqlite3.connect(database) as connection:
        (count,) = connection.execute("SELECT count(*) FROM metrics WHERE key = 'objective'").fetchone()
    return int(count)


def _require(found: int, wanted: int, what: str) -> None:
    if found != wanted:
        raise RuntimeError(f"{found} {what}, not {wanted}: the rates would not compare")
