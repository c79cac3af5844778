"""Whole searches with trials of one shape trained as one program, beside trials alone, and beside Ray Tune.

Each search is the program's own: its configuration, space, pruner, durable study, workers on Ray and MLflow, in one
process and without the command's checks and stages after it. The time begins when the workers have imported everything,
have trained a few trials of another study for practice, and MLflow's database is open; it ends when the last trial was
told and everything stands in MLflow. What `fused=auto` measures is in it. `model-steps/s` are steps of the optimiser of
all trials in that time: the pruner decides by who reports first, so trials in cohorts may run more epochs or fewer
than alone, and the times alone do not say what a step costs. That is why there is a case without pruning.

Ray Tune has the same time: from the moment at which its actors have imported everything and trained a little until its
last trial has ended, with its MLflow callback told. It trains networks of the same shapes in plain PyTorch
(`peers/plain.py`) in reused actors, drawn at random from the same ranges by Optuna, and stops them by its ASHA with our
rungs. It keeps no weights and looks at no layers, which ours do. It runs once, whatever `--repeats` says.

With `--gpu` (or `--device cpu`) nothing is searched: steps of cohorts are timed beside those of single trials.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from scripts.benchmarks import cohorts
from scripts.benchmarks.composed import configured, data_of
from scripts.benchmarks.environments import run_peer
from scripts.benchmarks.isolated import isolated
from scripts.benchmarks.results import Goal, Record, median
from scripts.benchmarks.whole import Searched, measure
from search.errors import UsageError
from search.space import Space
from search.sweep.pruners import rung_steps
from search.train.plan import Plan

BENCH, MEASURED = "fused", "fused: what auto measured"
FUSED, ALONE, PEER = "fused", "alone", "tune"
WALL, RATE, TRIALS, EPOCHS, BEST = "wall s", "model-steps/s", "trials/h", "epochs run", "best accuracy"
_RATIOS = ((RATE, FUSED, ALONE), (WALL, ALONE, FUSED), (RATE, FUSED, PEER), (WALL, PEER, FUSED))
"""(metric, of whom, over whom): above 1 is in favour of what is fused."""
GOALS = (
    Goal(metric=RATE, system=f"{FUSED} / {ALONE}", case="mlp", least=3.5),
    Goal(metric=WALL, system=f"{ALONE} / {FUSED}", case="mlp", least=2.5),
    Goal(metric=WALL, system=f"{PEER} / {FUSED}", case="mlp", least=8),
    Goal(metric=WALL, system=f"{ALONE} / {FUSED}", case="default", least=1),
    Goal(metric=WALL, system=f"{ALONE} / {FUSED}", case="cnn", least=0.9),
)
_MLP = ("model=mlp", "model.width=32", "model.space.width.choices=[16,32,64]", "~model.space.depth")
CASES = {
    "mlp": _MLP,
    "default": (),
    "cnn": ("model=cnn",),
    "unpruned mlp": (*_MLP, "pruner=none"),
}
"""Overrides of the command."""
_PEER_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is searched: all overrides that both of ours have."""

    name: str
    words: tuple[str, ...]
    trials: int
    workers: int


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), help="which searches")
    parser.add_argument("--peer-cases", nargs="*", default=["mlp"], choices=list(CASES), help="those that Ray Tune has")
    parser.add_argument("--no-peer", action="store_true", help="without Ray Tune")
    parser.add_argument("--trials", type=int, default=64, help="of each search")
    parser.add_argument("--epochs", type=int, default=20, help="of a trial that is not stopped")
    parser.add_argument("--fused", default="auto", metavar="N", help="what is compared with off: auto, or a number")
    parser.add_argument("--repeats", type=int, default=1, help="searches of ours, fused and alone in turn; medians")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--set", "-s", action="append", default=[], metavar="KEY=VALUE", help="for all of our searches")
    parser.add_argument("--gpu", dest="device", action="store_const", const="cuda", help="as --device cuda")
    parser.add_argument("--device", default=None, help="time steps of cohorts there, and search nothing")
    parser.add_argument("--sizes", default="8,64", help="of those cohorts")


def run(options: argparse.Namespace, console: Console) -> list[Record]:
    """Measure all cases in turn."""
    if options.device is not None:
        return isolated(cohorts.measure, options.device, cohorts.sizes_of(options.sizes), console.is_terminal)
    if options.fused != "auto" and not (options.fused.isdigit() and int(options.fused) > 1):
        raise UsageError(f"--fused {options.fused}: auto, or a number from 2 on")
    if min(options.trials, options.epochs, options.repeats, options.workers) < 1:
        raise UsageError("--trials, --epochs, --repeats, --workers: at least 1")
    records = median([_once(options, number, console) for number in range(options.repeats)])
    return sorted([*records, *ratios(records)], key=lambda record: (record.bench, _place(record.case)))


def _place(case: str) -> int:
    return list(CASES).index(case) if case in CASES else len(CASES)


def _once(options: argparse.Namespace, number: int, console: Console) -> list[Record]:
    found: list[Record] = []
    for name in options.cases:
        words = (
            *("stages=[search]", "seed=0", "tracking=sqlite", "device=cpu", f"cluster.cpus={options.workers}"),
            *(f"cluster.workers={options.workers}", f"budget.trials={options.trials}"),
            *(f"trainer.epochs={options.epochs}", *CASES[name], *options.set),
        )
        case = Case(name=name, words=words, trials=options.trials, workers=options.workers)
        steps = _steps(words)
        for system, fused in ((FUSED, options.fused), (ALONE, "off")):
            searched = isolated(measure, (*words, f"fused={fused}"), f"{name}, {system}", console.is_terminal)
            found += [*records_of(name, system, searched, steps), *_measured(name, searched)]
        if number == 0 and name in options.peer_cases and not options.no_peer:
            console.print(f"Ray Tune, {name} ...")
            found += records_of(name, PEER, _peer(case, console), steps)
    return found


def _steps(words: Sequence[str]) -> int:
    """Return the steps of an epoch."""
    cfg = configured(words)
    return Plan.of(cfg.trainer).steps_an_epoch(len(data_of(cfg).split.train))


def _peer(case: Case, console: Console) -> Searched:
    with tempfile.TemporaryDirectory(prefix="search-bench-") as folder:
        settings = peer_settings(case, Path(folder) / "data.npz")
        found = run_peer(None, "tune_fused.py", settings, console, seconds=_PEER_SECONDS)
    if found["processes"] != case.workers:
        console.print(f"note: Ray Tune took {found['processes']} processes for {case.workers} workers")
    return Searched(**{key: found[key] for key in ("wall", "trials", "epochs", "best")})


def peer_settings(case: Case, data: Path) -> dict[str, Any]:
    """Return what the peer is told, and write the data that it is to train on."""
    cfg = configured(case.words)
    dataset = data_of(cfg)
    examples, split = dataset.examples, dataset.split
    np.savez(data, inputs=examples.inputs, targets=examples.targets, train=split.train, validation=split.validation)
    dimensions = Space.of(cfg).dimensions
    kinds = next((d.choices for d in dimensions if d.path == "model"), None)
    defaults = {d.name: d.default for d in dimensions}
    return {
        "trials": case.trials,
        "epochs": cfg.trainer.epochs,
        "batch_size": cfg.trainer.batch_size,
        "workers": case.workers,
        "rungs": [] if cfg.pruner.kind == "none" else rung_steps(list(cfg.pruner.rungs), cfg.trainer.epochs),
        "eta": None if cfg.pruner.kind == "none" else cfg.pruner.eta,
        "network": None if cfg.model is None else str(cfg.model["_target_"]).rpartition(".")[2].lower(),
        "dimensions": [asdict(d) for d in dimensions],
        "practice": [defaults] if kinds is None else [{**defaults, "model": kind} for kind in kinds],
        "data": str(data),
    }


# Figures


def records_of(case: str, system: str, searched: Searched, steps: int) -> list[Record]:
    """Return a search's figures; an epoch has so many steps."""
    figures = {
        WALL: searched.wall,
        RATE: searched.epochs * steps / searched.wall,
        TRIALS: 3600 * searched.trials / searched.wall,
        EPOCHS: searched.epochs,
        BEST: searched.best,
    }
    return _records(BENCH, case, system, figures)


def _measured(case: str, searched: Searched) -> Iterator[Record]:
    """Yield what was measured of each shape: model-steps a second by the size of cohorts, and what was chosen."""
    for shape, figures in searched.measured:
        yield from _records(MEASURED, case, shape, figures)


def ratios(records: Sequence[Record]) -> list[Record]:
    """Return what is fused beside what is not, for every case that has both; above 1 is in favour of what is fused."""
    values = {(r.case, r.system, r.metric): r.value for r in records if r.bench == BENCH}
    found = []
    for case in dict.fromkeys(case for case, _, _ in values):
        for metric, over, under in _RATIOS:
            above, below = values.get((case, over, metric)), values.get((case, under, metric))
            if above is not None and below:
                found += _records(BENCH, case, f"{over} / {under}", {metric: above / below})
    return found


def _records(bench: str, case: str, system: str, figures: Mapping[str, float]) -> list[Record]:
    return [Record(bench=bench, case=case, system=system, metric=k, value=v) for k, v in figures.items()]
