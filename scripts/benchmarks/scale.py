"""What a trial costs late in a long search, compared with early in it.

Trials that do nothing on two real Ray workers (seconds a trial, memory a trial), and many more on a thousand workers
in virtual time, through the same driver.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from scripts.benchmarks import ours
from scripts.benchmarks.isolated import isolated
from scripts.benchmarks.results import OURS, Goal, Record, median
from scripts.benchmarks.statistics import cost, growth
from scripts.benchmarks.watching import progress as showing
from search.errors import UsageError
from search.keyed import keyed_uniform
from search.memory import resident_memory
from search.records import Decision, Event, Outcome, Paused, Report, TrialSpec, Verdict, Work
from search.space import Space
from search.sweep.executor import Executor
from search.sweep.journal import Journal
from search.sweep.simulated import SimulatedExecutor, VirtualClock
from search.sweep.study import Progress

GROWTH, MEMORY, COST, WHOLE = "late / early cost", "driver memory KB/trial", "late cost ms/trial", "whole s"
GOALS = (Goal(metric=GROWTH, most=1.3), Goal(metric=MEMORY, most=20), Goal(metric=WHOLE, case="simulated", most=300))
PRUNERS: dict[str, dict[str, Any]] = {
    "none": {"kind": "none"},
    "asha": {"kind": "asha", "rungs": ours.RUNGS, "eta": 3},
    "promotion": {"kind": "promotion", "rungs": ours.RUNGS, "eta": 3},
    "median": {"kind": "median", "startup_trials": 5, "warmup_steps": 1},
    "hyperband": {"kind": "hyperband", "min_resource": 1, "reduction_factor": 3},
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    parser.add_argument("--trials", type=int, default=10_000, help="trials on Ray; 0 leaves them out")
    parser.add_argument("--simulated", type=int, default=100_000, help="trials in virtual time; 0 leaves them out")
    parser.add_argument("--workers", type=int, default=2, help="worker processes on Ray")
    parser.add_argument("--simulated-workers", type=int, default=1000, help="workers in virtual time")
    parser.add_argument("--reports", type=int, default=3, help="reports of each trial")
    parser.add_argument("--pruners", nargs="+", default=["none", "asha"], choices=PRUNERS, help="which pruners")
    parser.add_argument("--repeats", type=int, default=1, help="whole measurements, of which the medians are shown")
    parser.add_argument(
        "--in-memory", action="store_true", help="keep the studies on Ray in memory, too, as those in virtual time"
    )
    parser.add_argument("--profile", type=Path, metavar="DIR", help="write where the driver's time goes there, by case")


def run(options: argparse.Namespace, console: Console) -> list[Record]:
    """Measure each pruner, on Ray and in virtual time."""
    return median([_once(options, console) for _ in range(options.repeats)])


def _once(options: argparse.Namespace, console: Console) -> list[Record]:
    found = []
    for place, trials in (("Ray", options.trials), ("simulated", options.simulated)):
        for pruner in options.pruners if trials else ():
            case = f"{place}, pruner {pruner}, {trials} trials"
            found += isolated(
                measure,
                case,
                trials,
                workers=options.workers if place == "Ray" else options.simulated_workers,
                reports=options.reports,
                pruner=PRUNERS[pruner],
                in_memory=options.in_memory or place == "simulated",  # virtual time has no disk to wait for
                terminal=console.is_terminal,
                profile=None if options.profile is None else str(options.profile / f"{place}-{pruner}.txt"),
            )
    return found


def measure(
    case: str,
    trials: int,
    *,
    workers: int,
    reports: int,
    pruner: dict[str, Any],
    in_memory: bool,
    terminal: bool,
    profile: str | None,
) -> list[Record]:
    """Run one search; return its figures."""
    early, late = windows(trials, workers)
    console = Console(stderr=True, force_terminal=terminal)
    clock = VirtualClock()
    simulated = case.startswith("simulated")
    executor: Executor = (
        SimulatedExecutor(partial(_script, clock), workers, clock)
        if simulated
        else ours.on_ray(ours.make_noop, workers)
    )
    space = Space.of(OmegaConf.create(ours.CONFIG))
    profiler = cProfile.Profile() if profile else None
    with ours.temporary_study(in_memory=in_memory) as folder, executor:
        journal = Journal(folder, maximize=True)
        with showing(console, case, trials) as advance:
            ended = _Measured(trials, lambda: advance(1))
            driver = ours.searching(
                journal,
                trials,
                steps=reports,
                config=ours.configured(space, reports),
                pruner=pruner,
                watchers=[ended],
                space=space,
                clock=clock if simulated else time.time,
            )
            begin = time.perf_counter()
            if profiler:
                profiler.runcall(driver.run, executor)
            else:
                driver.run(executor)
        whole = time.perf_counter() - begin
        journal.close()
    if len(ended.times) != trials:
        raise RuntimeError(f"{len(ended.times)} trials ended, not {trials}")
    if profiler and profile:
        _write_profile(profiler, Path(profile))
    figures = {
        GROWTH: growth(ended.times, early, late),
        COST: 1000 * cost(ended.times, late),
        MEMORY: ended.memory_growth() / 1024,
        WHOLE: whole,
    }
    return [Record(bench="scale", case=case, system=OURS, metric=k, value=v) for k, v in figures.items()]


def windows(trials: int, workers: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the second tenth of the trials, and the last before nothing is left to be handed out.

    The last trials, one a worker, only end: they would make a late trial look cheap. Raises UsageError where the
    windows would overlap.
    """
    tenth, last = trials // 10, trials - workers
    if last - tenth < 2 * tenth or tenth < 2:
        raise UsageError(f"{trials} trials on {workers} workers: too few to compare late with early ones")
    return (tenth, 2 * tenth), (last - tenth, last)


class _Measured(ours.Ended):
    """Looks at the driver's memory, too: after a tenth of the trials, and after all."""

    def __init__(self, trials: int, tell: Any) -> None:
        super().__init__(tell)
        self._trials, self._memory = trials, [0, 0]

    def __call__(self, event: Event, position: int, progress: Progress) -> None:
        super().__call__(event, position, progress)
        if isinstance(event, Outcome) and len(self.times) in (self._trials // 10, self._trials):
            gc.collect()
            self._memory[len(self.times) == self._trials] = resident_memory()

    def memory_growth(self) -> float:
        """Return bytes a trial between the two looks."""
        return (self._memory[1] - self._memory[0]) / (self._trials - self._trials // 10)


def _script(
    clock: VirtualClock, work: Work
) -> Generator[tuple[float, Report], Decision, tuple[float, Paused | Outcome]]:
    """Play a trial whose epochs take half a minute to a minute and a half."""
    assert isinstance(work, TrialSpec)
    seconds = 60 * (0.5 + keyed_uniform("seconds", work.number))
    for step in range(1, work.config["reports"] + 1):
        value = ours.value_of(work.number, step)
        time_then = clock.now + seconds
        decision = yield seconds, Report(number=work.number, step=step, metrics={"objective": value}, time=time_then)
        if decision.verdict is not Verdict.GO_ON:
            break
    return 0.0, ours.last_word(work.number, step, decision, value, clock.now)


def _write_profile(profiler: cProfile.Profile, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        pstats.Stats(profiler, stream=file).sort_stats("tottime").print_stats(40)
        pstats.Stats(profiler, stream=file).sort_stats("cumulative").print_stats(40)
