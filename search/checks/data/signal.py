"""R08: whether the inputs say anything about the targets."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.checks.bench import Bench
from search.checks.check import Check, Found, skipped
from search.checks.data.leaks import leaks
from search.checks.data.vectors import learnable, spectra, vectors
from search.checks.evidence import Bars, Sheet
from search.records import CheckVerdict
from search.train.data.arrays import Array

FEWEST = 20
FEWEST_OF_CLASS = 5
FIRST_LOOK = 1000
"""Examples at first; all that may be compared with each other only where these show nothing."""
FOLDS = 5
DEVIATIONS = 3.9
"""Half the interval's width in standard errors. Of 350 shuffled data sets 3 passed at 3.6: folds share examples, so
that their scores vary more than independent ones do."""
WEAK = {True: 0.7, False: 0.35}
"""An area under the curve (classes) or rank correlation (numbers) that a big enough sample rules out or shows.

They are the same association: two normal classes 0.74 standard deviations apart have both.
"""


@dataclass(frozen=True, kw_only=True)
class _Score:
    """How well a simple model does on examples it was not fitted on: chance is 0.5 for classes, 0 for numbers."""

    model: str
    examples: int
    value: float
    low: float
    high: float
    accuracy: float


def look(bench: Bench) -> Found:
    """Score simple models by cross-validation within train and validation, until one is better than chance."""
    indices = _distinct(bench, learnable(bench))
    if bench.classifies:
        counts = np.bincount(bench.examples.targets[indices], minlength=bench.examples.num_outputs)
        indices = indices[counts[bench.examples.targets[indices]] >= FEWEST_OF_CLASS]
        if len(np.flatnonzero(counts >= FEWEST_OF_CLASS)) < 2:
            return skipped(f"fewer than two classes have {FEWEST_OF_CLASS} different examples in train and validation")
    elif not np.ptp(bench.examples.targets[indices]):
        return skipped("all targets of train and validation are the same")
    if len(indices) < FEWEST:
        return skipped(f"{len(indices)} different examples are too few to score a model on others")
    chance = 0.5 if bench.classifies else 0.0
    scores: list[_Score] = []
    for score in _scores(bench, indices):
        scores.append(score)
        if score.low > chance:
            break
    best = max(scores, key=lambda score: score.low)
    found = _found(bench, scores, best, chance)
    return _with_leaks(found, leaks(bench, indices)) if found.verdict is CheckVerdict.PASS else found


def _with_leaks(found: Found, alone: dict[str, float]) -> Found:
    """Return what was found, with inputs that tell too much."""
    if not alone:
        return found
    strongest = max(alone, key=alone.__getitem__)
    return dataclasses.replace(
        found,
        verdict=CheckVerdict.WARN,
        sentence=f"{strongest} alone tells the target ({alone[strongest]:.4f}; 1 is without error); {found.sentence}",
        advice="look whether it was made from the target, or is known only afterwards; if so, leave it out",
        measured={**found.measured, "inputs_that_tell_all": len(alone)},
    )


def _found(bench: Bench, scores: list[_Score], best: _Score, chance: float) -> Found:
    measure = "area under the ROC curve" if bench.classifies else "rank correlation"
    an = "an" if bench.classifies else "a"
    weak = WEAK[bench.classifies]
    verdict, advice = CheckVerdict.PASS, ""
    if best.low <= chance:
        last = [score for score in scores if score.examples == best.examples]
        enough = all(score.high - score.low < 2 * (weak - chance) for score in last)
        ruled_out = enough and all(score.high < weak for score in last)
        verdict = CheckVerdict.FAIL if ruled_out else CheckVerdict.WARN
        advice = "see whether inputs and targets still belong together; else find inputs that tell more"
        if not ruled_out:
            advice = f"too few examples to tell; with more of them an association as weak as {weak} would show"
    told = "" if verdict is CheckVerdict.PASS else ", which cannot be told from chance"
    bars = Bars(
        name="scores",
        title="simple models, cross-validated, with their intervals",
        y=measure,
        labels=tuple(score.model for score in scores),
        bars={name: np.array([getattr(s, name) for s in scores]) for name in ("low", "value", "high")},
        levels={"chance": chance},
    )
    columns = ("model", "examples", measure.replace(" ", "_"), "low", "high", "accuracy_or_r2")
    rows = [(s.model, s.examples, *(round(v, 4) for v in (s.value, s.low, s.high, s.accuracy))) for s in scores]
    return Found(
        verdict=verdict,
        sentence=f"the {best.model} model reaches, on {best.examples} examples by cross-validation, {an} {measure} of "
        f"{best.value:.3f} (interval {best.low:.3f} to {best.high:.3f}; chance is {chance:g}){told}",
        advice=advice,
        expected={"score": chance},
        measured={
            "score": best.value,
            "low": best.low,
            "high": best.high,
            "accuracy" if bench.classifies else "r2": best.accuracy,
        },
        evidence=(bars, Sheet(name="scores", columns=columns, rows=rows)),
    )


def _scores(bench: Bench, indices: Array) -> Iterator[_Score]:
    """Yield the score of one model after the other: the cheap ones first, on few examples first."""
    most = max(FIRST_LOOK, int(bench.settings["examples"]))
    for size in sorted({min(len(indices), FIRST_LOOK), min(len(indices), most)}):
        chosen = indices
        if len(indices) > size:
            chosen = np.sort(bench.generator("signal", size).choice(indices, size, replace=False))
        targets = bench.examples.targets[chosen]
        if bench.classifies:
            counts = np.bincount(targets)
            chosen = chosen[counts[targets] >= FEWEST_OF_CLASS]
            targets = np.unique(bench.examples.targets[chosen], return_inverse=True)[1]
            if targets.max(initial=0) == 0:
                continue
        compact = vectors(bench).compact(chosen)
        yield _linear(compact, targets, bench.classifies)
        yield _neighbours(compact, targets, bench.classifies)
        yield _trees(compact, targets, bench.classifies, "trees")
        if bench.examples.kind in ("series", "picture"):
            yield _trees(spectra(bench.examples.inputs, chosen), targets, bench.classifies, "trees of the spectrum")


def _linear(inputs: Array, targets: Array, classes: bool) -> _Score:
    from sklearn.linear_model import Ridge

    given = np.eye(int(targets.max()) + 1)[targets] if classes else targets
    return _score("linear", lambda: Ridge(alpha=max(1.0, 0.1 * inputs.shape[1])), inputs, targets, given)


def _neighbours(inputs: Array, targets: Array, classes: bool) -> _Score:
    from sklearn.neighbors import KNeighborsRegressor

    given = np.eye(int(targets.max()) + 1)[targets] if classes else targets
    number = int(np.clip(np.sqrt(len(inputs)) / 2, 5, 30))
    return _score("neighbours", lambda: KNeighborsRegressor(number, algorithm="brute"), inputs, targets, given)


def _trees(inputs: Array, targets: Array, classes: bool, name: str) -> _Score:
    from sklearn.ensemble import ExtraTreesRegressor

    given = np.eye(int(targets.max()) + 1)[targets] if classes else targets
    made = {"n_estimators": 30, "min_samples_leaf": 5, "max_features": 0.33, "random_state": 0, "max_depth": 12}
    return _score(name, lambda: ExtraTreesRegressor(**made), inputs, targets, given)


def _score(name: str, make: Callable[[], Any], inputs: Array, targets: Array, given: Array) -> _Score:
    """Return the score of predictions for examples in other folds; `given` is what the model is to predict."""
    from sklearn.model_selection import KFold, StratifiedKFold

    classes = given.ndim == 2
    kind = StratifiedKFold if classes else KFold
    predicted = np.zeros(given.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of features that do not vary
        for fitted_on, others in kind(FOLDS, shuffle=True, random_state=0).split(inputs, targets):
            middle = given[fitted_on].mean(axis=0)  # else a fold's own mean, which the others lack, speaks against it
            model = make().fit(inputs[fitted_on], given[fitted_on] - middle)
            predicted[others] = model.predict(inputs[others]).reshape(len(others), *given.shape[1:])
    if classes:
        value, error = _area(predicted, targets)
        low, high = value - DEVIATIONS * error, value + DEVIATIONS * error
        shares = given.mean(axis=0)
        accuracy = float(np.mean((predicted + shares).argmax(axis=1) == targets))
    else:
        from scipy.stats import rankdata

        residual = given - given.mean() - predicted
        accuracy = float(1 - np.mean(residual**2) / np.var(given))
        ranks = rankdata(predicted), rankdata(given)
        value = float(np.corrcoef(*ranks)[0, 1]) if np.ptp(predicted) else 0.0
        width = DEVIATIONS / np.sqrt(len(given) - 3)  # Fisher's transformation
        low, high = (float(np.tanh(np.arctanh(np.clip(value, -0.9999, 0.9999)) + side)) for side in (-width, width))
    return _Score(model=name, examples=len(targets), value=value, low=low, high=min(high, 1.0), accuracy=accuracy)


def _area(predicted: Array, targets: Array) -> tuple[float, float]:
    """Return the area under the ROC curve of each class against the others, averaged by their shares, and its error.

    The error is that of the sum of each example's part in the areas (DeLong et al., "Comparing the areas under two or
    more correlated ROC curves", Biometrics 1988), and at least that under permuted targets (Hoeffding 1951): few
    examples that happen to be told apart vary too little.
    """
    from scipy.stats import rankdata

    total, parts = 0.0, np.zeros(len(targets))
    counts = np.bincount(targets)
    weighted = np.empty(predicted.shape)
    for c, ones in enumerate(counts):
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
    permuted = float(np.sum(counts * np.square(centred).sum(axis=0)) / (len(targets) - 1))
    return total, float(np.sqrt(max(np.sum(parts**2), permuted)))


def _distinct(bench: Bench, indices: Array) -> Array:
    """Return one example of each group of the same inputs: a copy in another fold would be no other example."""
    from search.checks.data.duplicates import fingerprints

    _, first = np.unique(fingerprints(bench)[indices], return_index=True)
    return indices[np.sort(first)]


CHECK = Check(row="R08", title="signal in the inputs", look=look)
