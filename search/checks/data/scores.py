"""How well simple models do on examples that they were not fitted on, with intervals."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.train.data.arrays import Array

FOLDS = 5
DEVIATIONS = 4.2
"""Half the interval's width in standard errors. Folds share examples, so that their scores vary more than independent
ones do: 1.2 to 1.45 times as much for the linear model on shuffled data."""
_BLOCK = 8192


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well a simple model does on examples it was not fitted on: chance is 0.5 for classes, 0 for numbers."""

    model: str
    examples: int
    value: float
    low: float
    high: float
    accuracy: float

    def deviations(self, chance: float) -> float:
        """Return about how many standard errors from chance the value is, above 0 where it is better."""
        if self.value >= chance:
            return DEVIATIONS * (self.value - chance) / max(self.value - self.low, 1e-9)
        return DEVIATIONS * (self.value - chance) / max(self.high - self.value, 1e-9)


def linear(vectors_of: Callable[[slice], Array], targets: Array, classes: bool, name: str = "linear") -> Score:
    """Score ridge regression on any number of examples; `vectors_of` gives a block of them, (n, D)."""
    given, folds = _given(targets, classes), _folds(targets, classes)
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(targets), _BLOCK)]
    width = vectors_of(slice(0, 1)).shape[1]
    products = np.zeros((FOLDS, width + 1, width + 1 + given.shape[1]))  # of each fold, so that others are a difference
    for block in blocks:
        values = _with_ones(vectors_of(block))
        for fold in range(FOLDS):
            its = folds[block] == fold
            both = np.concatenate([values[its], given[block][its]], axis=1, dtype=np.float64)
            products[fold] += values[its].T.astype(np.float64) @ both
    penalty = np.diag([*[max(1.0, 0.1 * width)] * width, 1e-9])
    everything, weights = products.sum(axis=0), []
    for fold in range(FOLDS):
        rest = everything - products[fold]
        weights.append(np.linalg.solve(rest[:, : width + 1] + penalty, rest[:, width + 1 :]))
    predicted = np.empty(given.shape, dtype=np.float32)
    for block in blocks:
        values = _with_ones(vectors_of(block))
        for fold in range(FOLDS):
            its = folds[block] == fold
            predicted[block][its] = values[its] @ weights[fold]
    return _scored(name, predicted, targets, folds, classes)


def fitted(name: str, make: Callable[[], Any], inputs: Array, targets: Array, classes: bool) -> Score:
    """Score one of scikit-learn's regressors, which predicts the classes' indicators or the numbers."""
    given, folds = _given(targets, classes), _folds(targets, classes)
    predicted = np.zeros(given.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of features that do not vary
        for fold in range(FOLDS):
            its = folds == fold
            wanted = given[~its] if classes else given[~its, 0]
            predicted[its] = make().fit(inputs[~its], wanted).predict(inputs[its]).reshape(-1, given.shape[1])
    return _scored(name, predicted, targets, folds, classes)


def _with_ones(values: Array) -> Array:
    return np.concatenate([values, np.ones((len(values), 1), values.dtype)], axis=1)


def _given(targets: Array, classes: bool) -> Array:
    """Return what a model is to predict, (N, C) or (N, 1)."""
    if classes:
        return np.eye(int(targets.max()) + 1, dtype=np.float32)[targets]
    return targets.astype(np.float64)[:, None]


def _folds(targets: Array, classes: bool) -> Array:
    """Return the fold of each example, (N,)."""
    from sklearn.model_selection import KFold, StratifiedKFold

    folds = np.empty(len(targets), dtype=np.int64)
    kind = StratifiedKFold if classes else KFold
    for number, (_, its) in enumerate(kind(FOLDS, shuffle=True, random_state=0).split(folds, targets)):
        folds[its] = number
    return folds


def _scored(name: str, predicted: Array, targets: Array, folds: Array, classes: bool) -> Score:
    """Compare predictions within each fold alone.

    A fold that happens to have more of a class leaves fewer of it to be fitted on: across folds the predictions'
    levels would tell something of the targets that the inputs do not.
    """
    if classes:
        areas = [(np.mean(folds == f), *_area(predicted[folds == f], targets[folds == f])) for f in range(FOLDS)]
        value = float(sum(weight * area for weight, area, _ in areas))
        error = float(np.sqrt(sum((weight * e) ** 2 for weight, _, e in areas)))
        low, high = value - DEVIATIONS * error, value + DEVIATIONS * error
        accuracy = float(np.mean(predicted.argmax(axis=1) == targets))
    else:
        accuracy = float(1 - np.mean((targets - predicted[:, 0]) ** 2) / np.var(targets))
        value = _rank_correlation(predicted[:, 0], targets, folds)
        width = DEVIATIONS / np.sqrt(max(len(targets) - FOLDS - 2, 1))  # Fisher's transformation
        low, high = (float(np.tanh(np.arctanh(np.clip(value, -0.9999, 0.9999)) + side)) for side in (-width, width))
    return Score(model=name, examples=len(targets), value=value, low=low, high=min(high, 1.0), accuracy=accuracy)


def _rank_correlation(predicted: Array, targets: Array, folds: Array) -> float:
    from scipy.stats import rankdata

    ranks = np.empty((2, len(targets)))
    for fold in range(FOLDS):
        its = folds == fold
        both = np.stack([rankdata(predicted[its]), rankdata(targets[its])]) / max(np.count_nonzero(its), 1)
        ranks[:, its] = both - both.mean(axis=1, keepdims=True)
    scale = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float(ranks[0] @ ranks[1]) / scale if scale > 0 else 0.0


def _area(predicted: Array, targets: Array) -> tuple[float, float]:
    """Return the area under the ROC curve of each class against the others, averaged by their shares, and its error.

    The error is that of the sum of each example's part in the areas (DeLong et al., "Comparing the areas under two or
    more correlated ROC curves", Biometrics 1988), and at least that under permuted targets (Hoeffding 1951): few
    examples that happen to be told apart vary too little.
    """
    from scipy.stats import rankdata

    total, parts = 0.0, np.zeros(len(targets))
    counts = np.bincount(targets, minlength=predicted.shape[1])
    weighted = np.zeros(predicted.shape)
    for c in np.flatnonzero((counts > 0) & (counts < len(targets))):
        ones = counts[c]
        its, score, others = targets == c, predicted[:, c], len(targets) - ones
        ranks, own = rankdata(score), np.empty(len(targets))
        own[its], own[~its] = rankdata(score[its]), rankdata(score[~its])
        beaten = (ranks - own) / np.where(its, others, ones)  # of the other kind, the share below it
        part = np.where(its, beaten, 1 - beaten)
        area, share = float(part[its].mean()), ones / len(targets)
        total += share * area
        parts += share * (part - area) / np.where(its, ones, others)
        weighted[:, c] = ranks / (len(targets) * others)
    centred = weighted - weighted.mean(axis=0)
    centred -= (centred @ counts / len(targets))[:, None]
    permuted = float(np.sum(counts * np.square(centred).sum(axis=0)) / max(len(targets) - 1, 1))
    return total, float(np.sqrt(max(np.sum(parts**2), permuted)))
