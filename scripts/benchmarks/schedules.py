"""What schedules are worth: one network, equal epochs, the same seeds; only the learning rate's way differs.

Rates come from the configuration's default or from the range test of the same seed: cycles and one cycle rise to its
highest one. Figures are the accuracy on validation after the last epoch, over seeds: their mean, their standard
deviation, and how many of them the schedule made better than `constant` did.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

from rich.console import Console

from scripts.benchmarks.composed import composed
from scripts.benchmarks.results import Record
from scripts.benchmarks.watching import progress

GOALS = ()
BASE = "constant, default rate"
_STEEPEST, _HIGHEST = "steepest", "high"


@dataclass(frozen=True, kw_only=True)
class Way:
    """A schedule, and the rate that it is a factor of: the default, or one of the range test's."""

    schedule: str
    rate: str | None = None
    settings: tuple[str, ...] = ()


WAYS: Mapping[str, Way] = {
    BASE: Way(schedule="constant"),
    "constant, steepest slope": Way(schedule="constant", rate=_STEEPEST),
    "constant, highest rate": Way(schedule="constant", rate=_HIGHEST),
    "cosine": Way(schedule="cosine", rate=_HIGHEST),
    "triangular": Way(schedule="cyclical", rate=_HIGHEST),
    "triangular2": Way(schedule="cyclical", rate=_HIGHEST, settings=("schedule.mode=triangular2",)),
    "one cycle": Way(schedule="one_cycle", rate=_HIGHEST),
    "warm restarts": Way(schedule="sgdr", rate=_HIGHEST),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    parser.add_argument("--data", default="mnist1d", help="a data set's configuration")
    parser.add_argument("--model", default="cnn", help="a model's configuration")
    parser.add_argument("--optimizers", default="adamw,sgd", help="optimisers' configurations")
    parser.add_argument("--epochs", type=int, default=15, help="of each training")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each schedule")
    parser.add_argument("--workers", type=int, default=2, help="processes, each with one thread")


def run(options: argparse.Namespace, console: Console) -> list[Record]:
    """Train with every schedule under every seed."""
    optimizers = options.optimizers.split(",")
    jobs = [(optimizer, seed) for optimizer in optimizers for seed in range(options.seeds)]
    train = partial(_accuracies, options.data, options.model, options.epochs)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        futures = {job: pool.submit(train, *job) for job in jobs}
        with progress(console, "trainings under one seed", len(jobs)) as advance:
            for future in futures.values():
                future.result()
                advance(1)
    found = {job: future.result() for job, future in futures.items()}
    return [
        record
        for optimizer in optimizers
        for name in (*WAYS, "the range test's highest rate")
        for record in _records(
            f"{options.model}, {optimizer}",
            name,
            [found[optimizer, s][name] for s in range(options.seeds)],
            [found[optimizer, s][BASE] for s in range(options.seeds)],
        )
    ]


def _records(case: str, name: str, values: Sequence[float], base: Sequence[float]) -> list[Record]:
    record = partial(Record, bench="schedules", case=case, system=name)
    if name not in WAYS:
        return [record(metric="mean", value=statistics.mean(values))]
    better = sum(value > other for value, other in zip(values, base, strict=True))
    return [
        record(metric="mean", value=statistics.mean(values)),
        record(metric="deviation", value=statistics.stdev(values)),
        *([] if name == BASE else [record(metric=f"of {len(values)} better", value=better)]),
    ]


def _accuracies(data: str, model: str, epochs: int, optimizer: str, seed: int) -> dict[str, float]:
    """Return the last accuracy with each schedule, and the highest rate that the range test of that seed allows."""
    import torch

    from search.checks.bench import minibatches
    from search.records import Verdict
    from search.train.data.arrays import Dataset
    from search.train.data.own import load
    from search.train.data.split import divide
    from search.train.range_test import range_test
    from search.train.setup import setup_of

    torch.set_num_threads(1)
    words = [f"data={data}", f"model={model}", f"optimizer={optimizer}", f"trainer.epochs={epochs}", f"seed={seed}"]
    nodes, config = composed(words)
    examples = load(nodes["data"])
    dataset = Dataset(examples=examples, split=divide(examples, nodes["split"]))
    cpu = torch.device("cpu")
    tested = setup_of(config, dataset, cpu, seed=seed)
    rates = range_test(tested, minibatches(tested, 100))
    found = {"the range test's highest rate": rates.high or float("nan")}
    for name, way in WAYS.items():
        _, config = composed([*words, f"schedule={way.schedule}", *way.settings])
        if way.rate is not None:
            rate = getattr(rates, way.rate)
            config["optimizer"]["lr"] = rate if rate is not None else config["optimizer"]["lr"]
        last: dict[str, float] = {}

        def report(_: int, figures: Mapping[str, float], last: dict[str, float] = last) -> tuple[Verdict, str]:
            last.update(figures)
            return Verdict.GO_ON, ""

        setup_of(config, dataset, cpu, seed=seed).training().fit(report)
        found[name] = last["val/accuracy"]
    return found
