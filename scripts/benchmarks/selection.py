"""How long it takes to choose ensembles from many members' predictions, beside the plain loop.

The members are of unlike skill and err together; their predictions are float32, as trials leave them. What counts is
the time of one core. The plain loop, which scores every mean anew, goes over a share of the members, where its choice
is compared with ours; for all of them its time is extrapolated, in proportion. Bagging and cross-fitting are timed
apart.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from rich.console import Console
from threadpoolctl import threadpool_limits

from scripts.benchmarks.results import OURS, Goal, Record
from scripts.benchmarks.watching import progress
from search.post.contenders import Selection, select
from search.post.costs import Budget
from search.post.greedy import Greedy, greedy
from search.post.pool import Method, Pool
from search.post.selection import cross_fitted, single_best, uniform, weighted
from search.train.data.split import folds_of
from search.train.metrics import Array, Metric, metrics_of

SECONDS, EQUAL = "seconds", "picks as the plain loop's"
PLAIN = "plain loop, extrapolated"
GOALS = (
    Goal(metric=SECONDS, case="greedy, loss", most=5),
    Goal(metric=SECONDS, case="greedy, accuracy", most=30),
    Goal(metric=EQUAL, least=1),
)
_TOP, _PATIENCE = 10, 10
_SAME = 1e-12


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    parser.add_argument("--metrics", nargs="+", default=["loss", "accuracy"], choices=["loss", "accuracy"])
    parser.add_argument("--members", type=int, default=2000, help="of the pool")
    parser.add_argument("--examples", type=int, default=10_000, help="of the validation split")
    parser.add_argument("--classes", type=int, default=10, help="of the data")
    parser.add_argument("--picks", type=int, default=50, help="of greedy selection")
    parser.add_argument("--bags", type=int, default=20, help="of bagged selection")
    parser.add_argument("--folds", type=int, default=5, help="of cross-fitting")
    parser.add_argument("--skill", type=float, default=2.0, help="how far the best lean to the truth; noise is 1")
    parser.add_argument("--share", type=int, default=20, help="of so many members one is the plain loop's")
    parser.add_argument("--seed", type=int, default=0, help="of the members")


def run(options: argparse.Namespace, console: Console) -> list[Record]:
    """Measure every method, by log loss and by accuracy."""
    predictions, targets = members_of(options.members, options.examples, options.classes, options.skill, options.seed)
    with threadpool_limits(1):
        found = [_whole(predictions, targets, options)]
        for name in options.metrics:
            metric = metrics_of("classification")[name]
            methods = _methods(metric, options)
            with progress(console, name, len(methods) + 2) as advance:
                found += _beside_plain(predictions[:: options.share], targets, metric, options)
                advance(1)
                for case, method in methods.items():
                    began = time.process_time()
                    method(Pool(predictions, targets))
                    found.append(_record(f"{case}, {name}", SECONDS, time.process_time() - began))
                    advance(1)
                folds = folds_of(options.examples, options.folds, 0)
                began = time.process_time()
                cross_fitted({"": methods["greedy"]}, Pool(predictions, targets), folds)
                case = f"greedy, cross-fitted in {options.folds} folds, {name}"
                found.append(_record(case, SECONDS, time.process_time() - began))
                advance(1)
    return found


def _whole(predictions: Array, targets: Array, options: argparse.Namespace) -> Record:
    """Return how long all of it takes: temperatures of members, every method, all of it again without each fold."""
    loss, accuracy = (metrics_of("classification")[name] for name in ("loss", "accuracy"))
    selection = Selection(
        objective=accuracy, by=loss, top_k=_TOP, picks=options.picks, folds=options.folds, seed=0, patience=_PATIENCE
    )
    began = time.process_time()
    select([str(i) for i in range(len(predictions))], predictions, targets, selection)
    return _record(f"all that the squeeze does, {options.folds} folds", SECONDS, time.process_time() - began)


def members_of(members: int, examples: int, classes: int, skill: float, seed: int) -> tuple[Array, Array]:
    """Return probabilities (members, examples, classes) in float32, and the true classes."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, examples)
    common = generator.normal(size=(examples, classes)).astype(np.float32)
    predictions = np.empty((members, examples, classes), dtype=np.float32)
    for one in predictions:
        generator.standard_normal(out=one, dtype=np.float32)
        one += common
        one[np.arange(examples), targets] += generator.uniform(0.5, 1) * skill
        np.exp(2 * one, out=one)
        one /= one.sum(axis=1, keepdims=True)
    return predictions, targets


def plain(predictions: Array, targets: Array, metric: Metric, picks: int) -> Array:
    """Return the weights (M,) of greedy selection as one would write it down first."""
    total, counts, least = np.zeros(predictions.shape[1:]), np.zeros(len(predictions)), np.inf
    kept = counts
    for size in range(1, picks + 1):
        values = np.array([metric((total + member) / size, targets) for member in predictions])
        losses = -values if metric.maximize else values
        pick = int(np.argmax(losses <= losses.min() + _SAME))
        total += predictions[pick]
        counts[pick] += 1
        if losses[pick] < least - _SAME:
            kept, least = counts.copy(), losses[pick]
    return np.asarray(kept / kept.sum())


def _beside_plain(predictions: Array, targets: Array, metric: Metric, options: argparse.Namespace) -> list[Record]:
    began = time.process_time()
    expected = plain(predictions, targets, metric, options.picks)
    seconds = time.process_time() - began
    method = greedy(metric, Greedy(picks=options.picks), *_everyone(len(predictions)))
    case, share = f"greedy, {metric.name}", options.members / len(predictions)
    return [
        Record(bench="selection", case=case, system=PLAIN, metric=SECONDS, value=share * seconds),
        _record(case, EQUAL, np.allclose(method(Pool(predictions, targets)), expected)),
    ]


def _methods(metric: Metric, options: argparse.Namespace) -> dict[str, Method]:
    rows, budget = _everyone(options.members)
    return {
        "greedy": greedy(metric, Greedy(picks=options.picks), rows, budget),
        f"greedy in {options.bags} bags": greedy(metric, Greedy(picks=options.picks, bags=options.bags), rows, budget),
        "single best": single_best(metric, rows),
        f"uniform top {_TOP}": uniform(metric, _TOP, rows, budget),
        f"weighted top {_TOP}": weighted(metric, _TOP, rows, budget),
    }


def _everyone(members: int) -> tuple[Array, Budget]:
    return np.arange(members), Budget.free(members)


def _record(case: str, metric: str, value: float) -> Record:
    return Record(bench="selection", case=case, system=OURS, metric=metric, value=value)
