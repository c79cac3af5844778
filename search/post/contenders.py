"""Who competes to be the champion: single trials, ensembles and students, chosen by their validation predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from search.post.results import Contender, Figure
from search.post.selection import among, combine, cross_fitted, greedy, single_best, snapshots_of_best, uniform
from search.train.metrics import Array, Metric

GREEDY = "greedy ensemble"
SNAPSHOTS = "snapshot ensemble"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A contender before the test split is opened.

    `weights` are by member (a folder's name), summing to 1; `validation` holds predictions on the validation split,
    cross-fitted where members were chosen by it, None where they were trained on it.
    """

    name: str
    weights: Mapping[str, float]
    validation: Array | None


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How ensembles are chosen: `by` is what greedy selection looks at, `objective` what members are ranked by."""

    objective: Metric
    by: Metric
    top_k: int
    picks: int
    folds: int
    seed: int


def select(
    members: Sequence[str],
    predictions: Array,
    targets: Array,
    selection: Selection,
    owners: Mapping[str, str] | None = None,
) -> list[Candidate]:
    """Return single best, uniform and greedy, last, from the members' stacked predictions (M, N, ...).

    `owners` names the trial of each member that is a snapshot of it. Snapshots are no single best, and one that equals
    its trial counts once; with two of one trial there is an ensemble of snapshots alone.
    """
    index = {member: i for i, member in enumerate(members)}
    of = {index[snapshot]: index[trial] for snapshot, trial in (owners or {}).items()}
    trials = [i for i in index.values() if i not in of]
    distinct = [i for i in index.values() if i not in of or not np.array_equal(predictions[i], predictions[of[i]])]
    k = min(selection.top_k, len(distinct))
    methods = {
        "single best": among(single_best(selection.objective), trials),
        f"uniform top {k}": among(uniform(selection.objective, k), distinct),
    }
    if len(set(of.values())) < len(of):
        methods[SNAPSHOTS] = snapshots_of_best(selection.objective, of)
    methods[GREEDY] = among(greedy(selection.by, selection.picks), distinct)
    candidates = []
    for name, method in methods.items():
        weights = method(predictions, targets)
        candidates.append(
            Candidate(
                name=name,
                weights={member: float(w) for member, w in zip(members, weights, strict=True) if w > 0},
                validation=cross_fitted(method, predictions, targets, folds=selection.folds, seed=selection.seed),
            )
        )
    return candidates


def champion_of(candidates: Sequence[Candidate], targets: Array, metric: Metric) -> Candidate:
    """Return the best of those with a figure on validation; of equals the one with fewest members."""

    def rank(candidate: Candidate) -> tuple[float, int]:
        assert candidate.validation is not None
        value = metric(candidate.validation, targets)
        return (-value if metric.maximize else value, len(candidate.weights))

    return min((c for c in candidates if c.validation is not None), key=rank)


def judged(
    candidate: Candidate, metric: Metric, validation_targets: Array, test: Mapping[str, Array], test_targets: Array
) -> Contender:
    """Return a candidate with its figures; `test` holds each member's predictions on the test split."""
    return Contender(
        name=candidate.name,
        members=candidate.weights,
        validation=None if candidate.validation is None else figure(metric, candidate.validation, validation_targets),
        test=figure(metric, weighted(candidate.weights, test), test_targets),
    )


def weighted(weights: Mapping[str, float], predictions: Mapping[str, Array]) -> Array:
    """Return the ensemble's predictions (N, ...) from its members'."""
    return combine(np.array(list(weights.values())), np.stack([predictions[member] for member in weights]))


def figure(metric: Metric, predictions: Array, targets: Array) -> Figure:
    """Return a figure of merit with its interval."""
    low, high = metric.interval(predictions, targets)
    return Figure(value=metric(predictions, targets), low=low, high=high)
