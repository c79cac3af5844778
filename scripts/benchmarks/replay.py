"""What early stopping saves and loses: measured learning curves through the real driver, in virtual time.

Every option sees the same draws of 27 runs, on one worker and on eight; on 64 workers all runs of a file, in another
order each time. Cost is the share of training all of them to their end; regret is how much worse than the best of
them the search's best is; `kept %` says how often that one was the best. Beside each option stands the simplest
rival at the same cost: one step for all, then the best few to their end.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import random
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from scripts.benchmarks import ours
from scripts.benchmarks.curves import Curves, load
from scripts.benchmarks.results import OURS, Goal, Record
from scripts.benchmarks.watching import progress
from search.errors import UsageError
from search.records import (
    Decision,
    FailureKind,
    Outcome,
    Params,
    Paused,
    Report,
    TrialSpec,
    TrialState,
    Verdict,
    Work,
    failed,
)
from search.space import Space
from search.sweep.journal import Journal
from search.sweep.simulated import SimulatedExecutor, VirtualClock

DRAWN = 27
OPTIONS = ("none", "asha", "promotion", "hyperband", "median")
BASELINE = "one step, best few"
COST, REGRET, KEPT, SECONDS, CHOSEN = "cost %", "mean regret", "kept %", "time", "few"
_MANY_WORKERS = 64
_ALEXNET = "opda_alexnet"
GOALS = tuple(
    Goal(metric=metric, case=f"{_ALEXNET}, {DRAWN} runs, {workers} {option}", most=most)
    for workers in ("1 worker,", "8 workers,")
    for option, metric, most in (
        ("promotion", COST, 42.0),
        ("promotion", REGRET, 0.003),
        ("asha", COST, 46.0),
        ("asha", REGRET, 0.008),
    )
)
_CHUNK = 5
_KEY = "trainer.run"


@dataclass(frozen=True, kw_only=True)
class Searched:
    """How one search over drawn runs went: its cost, its best value, the time that it took in virtual seconds."""

    cost: float
    value: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is searched with: an option, workers, and how many runs are drawn."""

    option: str
    workers: int
    num_runs: int

    def named(self, curves: Curves) -> str:
        """Return the setting in words."""
        plural = "" if self.workers == 1 else "s"
        return f"{curves.name}, {self.num_runs} runs, {self.workers} worker{plural}, {self.option}"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    parser.add_argument("--curves", type=Path, required=True, metavar="DIR", help="folder with curves as *.npz")
    parser.add_argument("--only", metavar="WORD", default="", help="only files whose name holds this word")
    parser.add_argument("--draws", type=int, default=300, help="draws of 27 runs")
    parser.add_argument("--repeats", type=int, default=3, help="orders of all runs, on 64 workers; 0 leaves them out")
    parser.add_argument("--options", nargs="+", default=list(OPTIONS), choices=OPTIONS, help="which options")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 8], help="workers for the draws")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="searches at a time")


def run(options: argparse.Namespace, console: Console) -> list[Record]:
    """Replay each file."""
    paths = sorted(path for path in options.curves.glob("*.npz") if options.only in path.stem)
    if not paths:
        raise UsageError(f"--curves {options.curves}: no file *{options.only}*.npz")
    return [record for path in paths for record in _replay(path, options, console)]


def _replay(path: Path, options: argparse.Namespace, console: Console) -> list[Record]:
    curves = load(path)
    small = [Setting(option=o, workers=w, num_runs=DRAWN) for w in options.workers for o in options.options]
    large = [Setting(option=o, workers=_MANY_WORKERS, num_runs=len(curves.runs)) for o in options.options]
    tasks = [(setting, seeds) for setting in small for seeds in _chunks(options.draws, _CHUNK)]
    tasks = [
        (setting, seeds) for setting in large for seeds in _chunks(options.repeats, 1)
    ] + tasks  # the longest first
    found: dict[Setting, dict[int, Searched]] = {setting: {} for setting, _ in tasks}
    total = sum(len(seeds) * setting.num_runs for setting, seeds in tasks)
    with (
        ProcessPoolExecutor(options.processes, mp_context=multiprocessing.get_context("spawn")) as pool,
        progress(console, f"{curves.name}, trials", total) as advance,
    ):
        pending = {pool.submit(search_draws, path, setting, seeds): (setting, seeds) for setting, seeds in tasks}
        for done in as_completed(pending):
            setting, seeds = pending[done]
            found[setting] |= dict(zip(seeds, done.result(), strict=True))
            advance(len(seeds) * setting.num_runs)
    return [
        record
        for setting in (*small, *(large if options.repeats else ()))
        for record in records_of(curves, setting, found[setting])
    ]


def _chunks(number: int, size: int) -> Iterator[range]:
    return (range(start, min(start + size, number)) for start in range(0, number, size))


_loaded: dict[Path, Curves] = {}
"""A process reads a file once."""


def search_draws(path: Path, setting: Setting, seeds: Sequence[int]) -> list[Searched]:
    """Return how the search over each seed's draw went."""
    curves = _loaded.get(path) or _loaded.setdefault(path, load(path))
    return [search_one(curves, setting, drawn(curves, setting.num_runs, seed)) for seed in seeds]


def drawn(curves: Curves, num_runs: int, seed: int) -> list[int]:
    """Return the runs of a draw, without replacement: the same for every option and number of workers."""
    return random.Random(seed).sample(range(len(curves.runs)), num_runs)


def search_one(curves: Curves, setting: Setting, draw: Sequence[int]) -> Searched:
    """Replay one search through the driver."""
    clock = VirtualClock()
    player = Player(curves, draw, clock)
    node = {"trainer": {"run": 0, "space": {"run": {"low": 0, "high": max(len(curves.runs) - 1, 1)}}}, "choose": {}}
    with (
        ours.temporary_study(in_memory=True) as folder,
        closing(Journal(folder, maximize=curves.maximize)) as journal,
        SimulatedExecutor(player, setting.workers, clock) as executor,
    ):
        driver = ours.searching(
            journal,
            len(draw),
            steps=curves.most_steps,
            config=lambda *_: {},
            pruner=pruner_of(setting.option, curves.most_steps),
            space=Space.of(OmegaConf.create(node)),
            planned=lambda params: curves.runs[_run_of(params)].planned,
            first=[{_KEY: index} for index in draw],
            maximize=curves.maximize,
            clock=clock,
            poll_seconds=math.inf,
        )
        best = driver.run(executor).best
    value = curves.worst if best is None or best.value is None else best.value
    return Searched(cost=player.cost, value=value, seconds=clock.now)


def pruner_of(option: str, most_steps: int) -> dict[str, Any]:
    """Return the option's configuration. Optuna's count steps; median looks from a quarter of the longest plan on."""
    options: dict[str, dict[str, Any]] = {
        "none": {"kind": "none"},
        "asha": {"kind": "asha", "rungs": ours.RUNGS, "eta": 3},
        "promotion": {"kind": "promotion", "rungs": ours.RUNGS, "eta": 3},
        "hyperband": {"kind": "hyperband", "min_resource": 1, "reduction_factor": 3},
        "median": {"kind": "median", "startup_trials": 5, "warmup_steps": most_steps // 4},
    }
    return options[option]


def _run_of(params: Params) -> int:
    index = params[_KEY]
    assert isinstance(index, int)
    return index


class Player:
    """Plays a trial by its run's curve; one that goes on after a pause does so where it stood."""

    def __init__(self, curves: Curves, draw: Sequence[int], clock: VirtualClock) -> None:
        self._curves, self._draw, self._clock = curves, draw, clock
        self._stands: dict[int, int] = {}
        self.cost = 0.0
        """Of all steps that were trained."""

    def __call__(self, work: Work) -> Generator[tuple[float, Report], Decision, tuple[float, Paused | Outcome]]:
        """Play it from where it stands to its end, or until it is told to leave."""
        assert isinstance(work, TrialSpec)
        number = work.number
        run = self._curves.runs[self._draw[number]]
        state, reason = TrialState.COMPLETE, "all epochs done"
        verdict = Verdict.GO_ON
        step = stood = self._stands.get(number, 0)
        for step in range(stood + 1, len(run.values) + 1):
            seconds = run.costs[step - 1]
            self.cost += seconds
            then, metrics = self._clock.now + seconds, {"objective": run.values[step - 1]}
            decision = yield seconds, Report(number=number, step=step, metrics=metrics, time=then)
            if decision.verdict is not Verdict.GO_ON:
                verdict, state, reason = decision.verdict, TrialState.PRUNED, decision.reason
                break
        else:
            if run.diverged:
                self.cost += run.costs[-1]
                then = self._clock.now + run.costs[-1]
                return run.costs[-1], failed(number, FailureKind.NON_FINITE, "the loss is not finite", time=then)
        outcome = Outcome(
            number=number,
            state=state,
            value=self._curves.best_of(run.values[:step]),
            best_step=step,
            steps=step,
            reason=reason,
            seconds=0.0,
            time=self._clock.now,
        )
        if verdict is Verdict.PAUSE:
            self._stands[number] = step
            return 0.0, Paused(number=number, step=step, so_far=outcome, time=outcome.time)
        return 0.0, outcome


# The simplest rival


def one_step_then(curves: Curves, draw: Sequence[int], few: int) -> Searched:
    """Return how it goes to train all for one step, and the best `few` after it to their end."""
    runs = [curves.runs[index] for index in draw]
    sign = -1.0 if curves.maximize else 1.0
    firsts = [sign * run.values[0] if run.values else math.inf for run in runs]
    chosen = sorted(range(len(runs)), key=lambda i: firsts[i])[:few]
    cost = math.fsum(run.costs[0] for run in runs) + math.fsum(runs[i].cost - runs[i].costs[0] for i in chosen)
    return Searched(cost=cost, value=curves.best_of([curves.final(runs[i]) for i in chosen]), seconds=0.0)


def at_equal_cost(curves: Curves, draws: Sequence[Sequence[int]], cost: float) -> tuple[int, list[Searched]]:
    """Return how many are to be trained to their end for that mean share of the cost, and how it goes then."""
    totals = [total_cost(curves, draw) for draw in draws]

    def searched(few: int) -> list[Searched]:
        return [one_step_then(curves, draw, few) for draw in draws]

    def distance(few: int) -> float:
        return abs(fmean(s.cost / total for s, total in zip(searched(few), totals, strict=True)) - cost)

    few = _lowest(distance, len(draws[0]))
    return few, searched(few)


def _lowest(distance: Any, most: int) -> int:
    """Return the whole number from 1 to `most` where a function with one valley is lowest."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if distance(middle) <= distance(middle + 1) else (middle + 1, high)
    return low


def total_cost(curves: Curves, draw: Sequence[int]) -> float:
    """Return what training all of a draw to their end costs."""
    return math.fsum(curves.runs[index].cost for index in draw)


# Figures


def records_of(curves: Curves, setting: Setting, searched: dict[int, Searched]) -> list[Record]:
    """Return a setting's figures and its rival's."""
    draws = [drawn(curves, setting.num_runs, seed) for seed in sorted(searched)]
    mine = figures(curves, draws, [searched[seed] for seed in sorted(searched)])
    few, rival = at_equal_cost(curves, draws, mine[COST] / 100)
    theirs = {CHOSEN: float(few), **figures(curves, draws, rival)}
    del theirs[SECONDS]
    case = setting.named(curves)
    return [
        Record(bench="replay", case=case, system=system, metric=metric, value=value)
        for system, found in ((OURS, mine), (BASELINE, theirs))
        for metric, value in found.items()
    ]


def figures(curves: Curves, draws: Sequence[Sequence[int]], searched: Sequence[Searched]) -> dict[str, float]:
    """Return the means over the draws."""
    bests = [curves.best_of([curves.final(curves.runs[index]) for index in draw]) for draw in draws]
    regrets = [curves.regret(s.value, best) for s, best in zip(searched, bests, strict=True)]
    costs = [s.cost / total_cost(curves, draw) for s, draw in zip(searched, draws, strict=True)]
    return {
        COST: 100 * fmean(costs),
        REGRET: fmean(regrets),
        KEPT: 100 * fmean(regret <= 0 for regret in regrets),
        SECONDS: fmean(s.seconds for s in searched),
    }
