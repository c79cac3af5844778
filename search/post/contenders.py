"""Who competes to be the champion: single trials, ensembles and students, chosen by their validation predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from search.layout import SNAPSHOTS as FOLDER
from search.post.calibration import calibration, cross_tempered, fitted_temperature, tempered
from search.post.costs import Budget, Cost, Limits, budget_of
from search.post.greedy import Greedy, greedy
from search.post.judgement import figure, paired_gains
from search.post.pool import Method, Pool, combine, distinct
from search.post.results import Calibration, Contender
from search.post.selection import cross_fitted, folds_of, single_best, snapshots_of_best, uniform
from search.post.selection import weighted as weighted_by_loss
from search.train.metrics import Array, Metric

SINGLE = "single best"
GREEDY = "greedy ensemble"
SNAPSHOTS = "snapshot ensemble"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A contender before the test split is opened.

    `weights` are by member (a folder's name), summing to 1; `validation` holds predictions on the validation split,
    cross-fitted where members or temperature were chosen by it, None where members were trained on it. `calibration`
    is what the temperature did to them.
    """

    name: str
    weights: Mapping[str, float]
    validation: Array | None
    temperature: float = 1.0
    calibration: Calibration | None = None

    def predict(self, predictions: Mapping[str, Array]) -> Array:
        """Return the candidate's predictions (N, ...) from its members'."""
        mean = weighted(self.weights, predictions)
        return tempered(mean, self.temperature) if mean.ndim == 2 else mean


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How ensembles are chosen: `by` is what greedy selection looks at, `objective` what members are ranked by.

    `calibrate` fits a temperature to predicted classes.
    """

    objective: Metric
    by: Metric
    top_k: int
    picks: int
    folds: int
    seed: int
    start: int = 0
    patience: int | None = None
    bags: int = 1
    calibrate: bool = True
    limits: Limits = dataclasses.field(default_factory=Limits)


def select(
    members: Sequence[str],
    predictions: Array,
    targets: Array,
    selection: Selection,
    owners: Mapping[str, str | None] | None = None,
    costs: Mapping[str, Cost] | None = None,
) -> list[Candidate]:
    """Return single best, uniform, of snapshots where there are any, weighted and greedy, from predictions (M, N, ...).

    `owners` has an entry for each member that is no trial itself: the trial that it came from, or None. These are no
    single best. Members that are equal count once in an ensemble. An ensemble keeps to the limits of `costs`; the
    single best need not, it is there to be compared with. Raises UsageError where a limit leaves no member.
    """
    pool = Pool(predictions, targets)
    methods = _methods(members, pool, selection, owners or {}, budget_of(selection.limits, members, costs))
    held_out = cross_fitted(methods, pool, folds=selection.folds, seed=selection.seed)
    candidates = []
    for name, method in methods.items():
        weights = {member: float(w) for member, w in zip(members, method(pool), strict=True) if w > 0}
        candidate = Candidate(name=name, weights=weights, validation=held_out[name])
        candidates.append(calibrated(candidate, targets, selection))
    return candidates


def _methods(
    members: Sequence[str], pool: Pool, selection: Selection, owners: Mapping[str, str | None], budget: Budget
) -> dict[str, Method]:
    index = {member: i for i, member in enumerate(members)}
    trials = [i for member, i in index.items() if member not in owners]
    rows = np.array(distinct(pool.predictions, [*trials, *(index[member] for member in owners if member in index)]))
    possible = budget.affordable(np.zeros(len(members), dtype=bool))
    snapshots = {
        index[member]: index[trial]
        for member, trial in owners.items()
        if trial in index and member in index and member.startswith(f"{trial}/{FOLDER}/") and possible[index[member]]
    }
    objective, k = selection.objective, min(selection.top_k, len(rows))
    settings = Greedy(
        picks=selection.picks,
        start=selection.start,
        patience=selection.patience,
        bags=selection.bags,
        seed=selection.seed,
    )
    methods = {
        SINGLE: single_best(objective, np.array(trials, dtype=np.intp)),
        f"uniform top {k}": uniform(objective, k, rows, budget),
    }
    if len(set(snapshots.values())) < len(snapshots):
        methods[SNAPSHOTS] = snapshots_of_best(objective, snapshots, budget)
    methods[f"weighted top {k}"] = weighted_by_loss(objective, k, rows, budget)
    methods[GREEDY] = greedy(selection.by, settings, rows, budget)
    return methods


def calibrated(candidate: Candidate, targets: Array, selection: Selection) -> Candidate:
    """Return the candidate with the temperature that its validation predictions ask for, where it predicts classes.

    The predictions that it then has are of temperatures that were fitted without the example's fold.
    """
    before = candidate.validation
    if not selection.calibrate or before is None or before.ndim == 1:
        return candidate
    folds = folds_of(len(targets), selection.folds, selection.seed)
    after = cross_tempered(before, targets, folds)
    return dataclasses.replace(
        candidate,
        validation=after,
        temperature=fitted_temperature(before, targets),
        calibration=calibration(before, after, targets),
    )


def champion_of(candidates: Sequence[Candidate], targets: Array, metric: Metric) -> Candidate:
    """Return the best of those with a figure on validation; of equals the one with fewest members."""

    def rank(candidate: Candidate) -> tuple[float, int]:
        assert candidate.validation is not None
        value = metric(candidate.validation, targets)
        return (-value if metric.maximize else value, len(candidate.weights))

    return min((c for c in candidates if c.validation is not None), key=rank)


def judged(
    candidates: Sequence[Candidate],
    metric: Metric,
    validation_targets: Array,
    test: Mapping[str, Array],
    test_targets: Array,
) -> tuple[Contender, ...]:
    """Return the candidates, the single best first, with their figures; `test` has each member's test predictions."""
    predicted = [candidate.predict(test) for candidate in candidates]
    gains = paired_gains(metric, predicted[1:], predicted[0], test_targets)
    return tuple(
        Contender(
            name=candidate.name,
            members=candidate.weights,
            validation=None
            if candidate.validation is None
            else figure(metric, candidate.validation, validation_targets),
            test=figure(metric, predictions, test_targets),
            gain=gain,
            temperature=candidate.temperature,
            calibration=_calibrations(candidate, test, predictions, test_targets),
        )
        for candidate, predictions, gain in zip(candidates, predicted, [None, *gains], strict=True)
    )


def weighted(weights: Mapping[str, float], predictions: Mapping[str, Array]) -> Array:
    """Return the weighted mean (N, ...) of members' predictions, as it is before any temperature."""
    return combine(np.array(list(weights.values())), np.stack([predictions[member] for member in weights]))


def _calibrations(
    candidate: Candidate, test: Mapping[str, Array], after: Array, targets: Array
) -> dict[str, Calibration]:
    if after.ndim == 1:
        return {}
    validation = {} if candidate.calibration is None else {"validation": candidate.calibration}
    return {**validation, "test": calibration(weighted(candidate.weights, test), after, targets)}
