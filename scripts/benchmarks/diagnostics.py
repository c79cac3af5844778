"""What looking at the layers costs: an epoch of a default network on digits, with and without.

Short trainings with and without it take turns in one process, and the time is that of its CPU alone; the figure is the
median over pairs of an epoch's time with over that without, of the same epoch. One thread, as a worker has.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console

from scripts.benchmarks.composed import composed
from scripts.benchmarks.results import OURS, Goal, Record
from scripts.benchmarks.watching import progress
from search.records import Verdict
from search.train.data.arrays import Dataset
from search.train.data.own import load
from search.train.data.split import divide
from search.train.setup import setup_of

RATIO = "epoch with / without"
EPOCH = "epoch without, ms"
GOALS = (Goal(metric=RATIO, most=1.05),)
_CPU = torch.device("cpu")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    parser.add_argument("--pairs", type=int, default=60, help="trainings with and without")
    parser.add_argument("--epochs", type=int, default=3, help="of each training; the first is not counted")
    parser.add_argument("--models", nargs="+", default=["mlp", "cnn"], help="which of ours")


def run(options: argparse.Namespace, console: Console) -> list[Record]:
    """Measure every model."""
    torch.set_num_threads(1)
    found = []
    for model in options.models:
        ratio, seconds = measure(model, options.pairs, options.epochs, console)
        found += [
            Record(bench="diagnostics", case=model, system=OURS, metric=metric, value=value)
            for metric, value in ((RATIO, ratio), (EPOCH, 1e3 * seconds))
        ]
    return found


def measure(model: str, pairs: int, epochs: int, console: Console) -> tuple[float, float]:
    """Return the ratio, and the seconds of an epoch without."""
    nodes, config = composed([f"model={model}"])
    examples = load(nodes["data"])
    dataset = Dataset(examples=examples, split=divide(examples, nodes["split"]))
    ratios: list[float] = []
    without: list[float] = []
    with progress(console, model, pairs) as advance:
        for number in range(pairs):
            seconds = {looks: _epochs(config, dataset, epochs, looks) for looks in ((False, True)[:: (-1) ** number])}
            ratios += [a / b for a, b in zip(seconds[True], seconds[False], strict=True)]
            without += seconds[False]
            advance(1)
    return statistics.median(ratios), statistics.median(without)


def _epochs(config: Mapping[str, Any], dataset: Dataset, epochs: int, looks: bool) -> list[float]:
    """Return the seconds of each epoch of a training but the first."""
    trainer = {**config["trainer"], "epochs": epochs, "diagnostics": looks}
    ends: list[float] = []

    def report(*_: object) -> tuple[Verdict, str]:
        ends.append(time.process_time())
        return Verdict.GO_ON, ""

    setup_of({**config, "trainer": trainer}, dataset, _CPU, seed=0).training().fit(report)
    return [end - begin for begin, end in itertools.pairwise(ends)]
