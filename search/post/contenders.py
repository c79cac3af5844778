"""Who competes to be the champion: single trials, ensembles and students, chosen by their validation predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from search.layout import SNAPSHOTS as FOLDER
from search.post.calibration import calibration, cross_tempered, fitted_temperature, own_temperatures, tempered
from search.post.costs import Budget, Cost, Limits, budget_of
from search.post.greedy import Greedy, greedy
from search.post.judgement import figure, mean_figures, paired_gains
from search.post.pool import Method, Pool, combine, distinct
from search.post.results import Calibration, Contender
from search.post.selection import cross_fitted, single_best, snapshots_of_best, uniform
from search.post.selection import weighted as weighted_by_loss
from search.train.data.split import folds_of
from search.train.metrics import Array, Metric

SINGLE = "single best"
REMATCHED = "rematch mean"
GREEDY = "greedy ensemble"
SNAPSHOTS = "snapshot ensemble"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A contender before the test split is opened.

    `weights` are by member (a folder's name), summing to 1; `validation` holds predictions on the validation split,
    cross-fitted where members or temperatures were chosen by it, None where members were trained on it. Probabilities
    of members are at their own of the `temperatures`, where they have one, their mean at the candidate's `temperature`;
    `calibration` is what the latter did.
    """

    name: str
    weights: Mapping[str, float]
    validation: Array | None
    temperatures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    temperature: float = 1.0
    calibration: Calibration | None = None

    def predict(self, predictions: Mapping[str, Array]) -> Array:
        """Return the candidate's predictions (N, ...) from those of its members' networks."""
        mean = self.mean(predictions)
        return tempered(mean, self.temperature) if mean.ndim == 2 else mean

    def mean(self, predictions: Mapping[str, Array]) -> Array:
        """Return the weighted mean (N, ...) of what its members' networks predict, before its own temperature."""
        return combine(np.array(list(self.weights.values())), self.stacked(predictions))

    def stacked(self, predictions: Mapping[str, Array]) -> Array:
        """Return what its members' networks predict, each at its own temperature: (M, N, ...)."""
        return np.stack([tempered(predictions[m], self.temperatures.get(m, 1.0)) for m in self.weights])


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How ensembles are chosen: `by` is what greedy selection looks at, `objective` what members are ranked by.

    `calibrate` fits temperatures to predicted classes.
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

    The mean of members that are sure to different degrees is that of the surest: one trained with smoothed labels would
    count for little, however often it is right. So each is calibrated first (Guo et al. 2017), with its example's fold
    left out where that is to be judged.
    """
    pool, folds = Pool(predictions, targets), folds_of(len(targets), selection.folds, selection.seed)
    methods = _methods(members, pool, selection, owners or {}, budget_of(selection.limits, members, costs))
    single = {SINGLE: methods.pop(SINGLE)}  # the trial that was best as it is, which a temperature might change
    classes = predictions.ndim == 3
    own = own_temperatures(predictions, targets, folds) if selection.calibrate and classes else None
    found = [*_candidates(single, members, pool, folds), *_candidates(methods, members, pool, folds, own)]
    return [calibrated(candidate, targets, selection) for candidate in found]


def _candidates(
    methods: Mapping[str, Method], members: Sequence[str], pool: Pool, folds: Sequence[Array], own: Array | None = None
) -> list[Candidate]:
    """Return what each method chooses of the members, at their `own` temperatures (1 + F, M) where they have some."""
    held_out = cross_fitted(methods, pool, folds, None if own is None else own[1:])
    ready = pool if own is None else pool.tempered(own[0])
    candidates = []
    for name, method in methods.items():
        weights = method(ready)
        rows = np.flatnonzero(weights).tolist()
        candidates.append(
            Candidate(
                name=name,
                weights={members[row]: float(weights[row]) for row in rows},
                validation=held_out[name],
                temperatures={} if own is None else {members[row]: float(own[0, row]) for row in rows},
            )
        )
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

    The predictions that it then has are of temperatures that were fitted without the example's fold. Where these raise
    the loss, as those of a few examples do, the candidate stays as it is.
    """
    before = candidate.validation
    if not selection.calibrate or before is None or before.ndim == 1:
        return candidate
    folds = folds_of(len(targets), selection.folds, selection.seed)
    after = cross_tempered(before, targets, folds)
    told = calibration(before, after, targets)
    if told.loss >= told.loss_before:
        return dataclasses.replace(candidate, calibration=calibration(before, before, targets))
    return dataclasses.replace(
        candidate,
        validation=after,
        temperature=fitted_temperature(before, targets),
        calibration=told,
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
            temperatures=candidate.temperatures,
            temperature=candidate.temperature,
            calibration=_calibrations(candidate, test, predictions, test_targets),
        )
        for candidate, predictions, gain in zip(candidates, predicted, [None, *gains], strict=True)
    )


def rematched(
    trainings: Sequence[Candidate],
    single: Candidate,
    metric: Metric,
    validation_targets: Array,
    test: Mapping[str, Array],
    test_targets: Array,
) -> Contender:
    """Return what the single best is worth under other seeds: the mean of its trainings' own figures."""
    left = [candidate.validation for candidate in trainings if candidate.validation is not None]
    assert single.validation is not None
    on_validation, _ = mean_figures(metric, left, single.validation, validation_targets)
    opened = [candidate.predict(test) for candidate in trainings]
    on_test, gain = mean_figures(metric, opened, single.predict(test), test_targets)
    members = {member: 1 / len(trainings) for candidate in trainings for member in candidate.weights}
    return Contender(name=REMATCHED, members=members, validation=on_validation, test=on_test, gain=gain)


def _calibrations(
    candidate: Candidate, test: Mapping[str, Array], after: Array, targets: Array
) -> dict[str, Calibration]:
    if after.ndim == 1:
        return {}
    validation = {} if candidate.calibration is None else {"validation": candidate.calibration}
    return {**validation, "test": calibration(candidate.mean(test), after, targets)}
