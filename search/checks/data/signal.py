"""R08: whether the inputs say anything about the targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from search.checks.bench import Bench
from search.checks.check import Check, Found, skipped
from search.checks.data.leaks import leaks
from search.checks.data.scores import Score, fitted, linear
from search.checks.data.vectors import COMPONENTS, learnable, spectra, vectors
from search.checks.evidence import Bars, Sheet
from search.records import CheckVerdict
from search.train.data.arrays import Array

FEWEST = 20
FEWEST_OF_CLASS = 5
MOST_CLASSES = 100
"""Of more classes the most frequent are told apart."""
FIRST_LOOK = 1000
"""Examples at first; all that may be compared with each other only where these show nothing."""
WIDEST = 1024
"""Columns of a table that a linear model is given as they are, beside their principal components."""
HINT = 3.5
"""Standard errors from chance, either way, at which nobody may say that there is nothing."""
MOST_FAILED = 2000
"""Examples: a task that many were gathered for may honestly be hard, with areas of 0.52 that they hardly show."""
WEAK = {True: 0.7, False: 0.35}
"""An area under the curve (classes) or rank correlation (numbers) that a big enough sample rules out or shows.

They are the same association: two normal classes 0.74 standard deviations apart have both.
"""


def look(bench: Bench) -> Found:
    """Score simple models by cross-validation within train and validation, until one is better than chance."""
    indices = _distinct(bench, learnable(bench))
    if bench.classifies:
        indices = _of_frequent_classes(bench, indices)
        if len(np.unique(bench.examples.targets[indices])) < 2:
            return skipped(f"fewer than two classes have {FEWEST_OF_CLASS} different examples in train and validation")
    elif not np.ptp(bench.examples.targets[indices]):
        return skipped("all targets of train and validation are the same")
    if len(indices) < FEWEST:
        return skipped(f"{len(indices)} different examples are too few to score a model on others")
    chance = 0.5 if bench.classifies else 0.0
    scores: list[Score] = []
    for score in _scores(bench, indices):
        scores.append(score)
        if score.low > chance:
            break
    if not scores:
        return skipped("a sample has too few examples of each class to score a model on others")
    found = _found(bench, scores, len(indices), chance)
    return _with_leaks(found, leaks(bench, indices)) if found.verdict is CheckVerdict.PASS else found


def _of_frequent_classes(bench: Bench, indices: Array) -> Array:
    """Return those of the indices whose class has enough examples among them, of the most frequent classes alone."""
    targets = bench.examples.targets[indices]
    counts = np.bincount(targets, minlength=bench.examples.num_outputs)
    frequent = np.argsort(-counts, kind="stable")[:MOST_CLASSES]
    kept = np.isin(targets, frequent[counts[frequent] >= FEWEST_OF_CLASS])
    return np.asarray(indices[kept])


def _with_leaks(found: Found, alone: dict[str, float]) -> Found:
    """Return what was found, with inputs that tell too much."""
    if not alone:
        return found
    strongest = max(alone, key=alone.__getitem__)
    return dataclasses.replace(
        found,
        verdict=CheckVerdict.WARN,
        sentence=f"{strongest} alone predicts the target (score {alone[strongest]:.4f}); {found.sentence}",
        advice="look whether it was made from the target, or is known only afterwards; if so, leave it out",
        measured={**found.measured, "inputs_that_tell_all": len(alone)},
    )


def _found(bench: Bench, scores: list[Score], examples: int, chance: float) -> Found:
    best = max(scores, key=lambda score: score.low)
    measure = "area under the ROC curve" if bench.classifies else "rank correlation"
    an = "an" if bench.classifies else "a"
    verdict, told, advice = _judged(scores, examples, chance, WEAK[bench.classifies])
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
        evidence=_evidence(scores, measure, chance),
    )


def _judged(scores: list[Score], examples: int, chance: float, weak: float) -> tuple[CheckVerdict, str, str]:
    """Return the verdict, what to add to the sentence, and the advice.

    A failure needs that every example was scored, and not too many, that none of the models has even a hint of an
    association, and that one worth the name is ruled out.
    """
    if max(score.low for score in scores) > chance:
        return CheckVerdict.PASS, "", ""
    nothing = ", which cannot be told from chance"
    last = [score for score in scores if score.examples == scores[-1].examples]
    below = min(last, key=lambda score: score.deviations(chance))
    if below.high < chance:
        words = f"{nothing}; the {below.model} model is worse than chance ({below.value:.3f})"
        return CheckVerdict.WARN, words, "inputs and targets belong together, but in a way that simple models misread"
    if any(score.high - score.low >= 2 * (weak - chance) or score.high >= weak for score in last):
        words = f"too few examples to tell; with more of them an association as weak as {weak} would show"
        return CheckVerdict.WARN, nothing, words
    if examples > min(MOST_FAILED, scores[-1].examples):
        words = "see whether inputs and targets still belong together; a weak association may not show"
        return CheckVerdict.WARN, nothing, words
    if any(abs(score.deviations(chance)) > HINT for score in last):
        return CheckVerdict.WARN, f"{nothing}, though there is a hint", "find inputs that tell more, or more examples"
    return CheckVerdict.FAIL, nothing, "see whether inputs and targets still belong together; else find other inputs"


def _evidence(scores: list[Score], measure: str, chance: float) -> tuple[Bars, Sheet]:
    shown = {"interval from": "low", "score": "value", "interval to": "high"}
    bars = Bars(
        name="scores",
        title="simple models on examples they were not fitted on, with the interval of each score",
        y=measure,
        labels=tuple(f"{score.model}, {score.examples} examples" for score in scores),
        bars={name: np.array([getattr(s, field) for s in scores]) for name, field in shown.items()},
        levels={"chance": chance},
    )
    columns = ("model", "examples", measure.replace(" ", "_"), "low", "high", "accuracy_or_r2")
    rows = [(s.model, s.examples, *(round(v, 4) for v in (s.value, s.low, s.high, s.accuracy))) for s in scores]
    return bars, Sheet(name="scores", columns=columns, rows=rows)


LINEAR = "linear"


def _scores(bench: Bench, indices: Array) -> Iterator[Score]:
    """Yield the score of one model after the other: the cheap ones first, on few examples first."""
    most = max(FIRST_LOOK, int(bench.settings["examples"]))
    for size in sorted({min(len(indices), FIRST_LOOK), min(len(indices), most)}):
        yield from _of_sample(bench, indices, size)
    if len(indices) > most:
        made = vectors(bench)
        of = made.of if _is_wide(bench) else made.compact
        targets = _numbered(bench, indices)
        yield linear(lambda block: of(indices[block]), targets, bench.classifies, LINEAR)


def _of_sample(bench: Bench, indices: Array, size: int) -> Iterator[Score]:
    chosen = indices
    if len(indices) > size:
        chosen = np.sort(bench.generator("signal", size).choice(indices, size, replace=False))
    if bench.classifies:
        chosen = _of_frequent_classes(bench, chosen)
    targets = _numbered(bench, chosen)
    if len(chosen) < FEWEST or not np.ptp(targets):
        return
    compact = vectors(bench).compact(chosen)
    yield linear(compact.__getitem__, targets, bench.classifies, LINEAR)
    if _is_wide(bench):
        columns = vectors(bench).of(chosen)
        yield linear(columns.__getitem__, targets, bench.classifies, "linear (all columns)")
    yield _neighbours(compact, targets, bench.classifies)
    yield _trees(compact, targets, bench.classifies, "trees")
    if bench.examples.kind in ("series", "picture"):
        yield _trees(spectra(bench.examples.inputs, chosen), targets, bench.classifies, "trees of the spectrum")


def _is_wide(bench: Bench) -> bool:
    return bench.examples.kind == "table" and COMPONENTS < bench.examples.inputs.shape[1] <= WIDEST


def _numbered(bench: Bench, indices: Array) -> Array:
    """Return the targets; of classes those that are there, numbered from 0."""
    targets = bench.examples.targets[indices]
    return np.unique(targets, return_inverse=True)[1] if bench.classifies else targets


def _neighbours(inputs: Array, targets: Array, classes: bool) -> Score:
    from sklearn.neighbors import KNeighborsRegressor

    number = int(np.clip(np.sqrt(len(inputs)) / 2, 5, 30))
    return fitted("neighbours", lambda: KNeighborsRegressor(number, algorithm="brute"), inputs, targets, classes)


def _trees(inputs: Array, targets: Array, classes: bool, name: str) -> Score:
    from sklearn.ensemble import ExtraTreesRegressor

    made = {"n_estimators": 30, "min_samples_leaf": 5, "max_features": 0.33, "random_state": 0, "max_depth": 12}
    return fitted(name, lambda: ExtraTreesRegressor(**made), inputs, targets, classes)


def _distinct(bench: Bench, indices: Array) -> Array:
    """Return one example of each group of the same inputs: a copy in another fold would be no other example."""
    from search.checks.data.duplicates import fingerprints

    _, first = np.unique(fingerprints(bench)[indices], return_index=True)
    return indices[np.sort(first)]


CHECK = Check(row="R08", title="signal in the inputs", look=look)
