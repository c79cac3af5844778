"""R04: labels that the data disagrees with."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from search.checks.bench import Bench
from search.checks.check import Check, Found, skipped
from search.checks.data.vectors import learnable, part_of, pictures, vectors
from search.checks.evidence import Evidence, Sheet
from search.layout import SPLITS
from search.records import CheckVerdict
from search.train.data.arrays import Array

FEWEST = 40
FEWEST_OF_CLASS = 5
NEIGHBOURS = 10
SURE = (0.8, 0.2, 0.02)
"""A contradiction: at least so many neighbours say another class, at most so many this one, and its probability."""
CONTRADICTED = 0.02
"""Share that is a warning where more speaks for wrong labels: classes that overlap, as shirts and pullovers of
Fashion-MNIST do, have up to 0.035 (0.025 from 2,000 examples on); 5 % flipped labels 0.017 to 0.05."""
PLAIN = 0.04
"""Share that is a warning whatever else."""
ONE_WAY = 0.8
"""Share of the contradictions from one class to one other: a mix-up. Where classes overlap the largest is 0.5."""
HINT = 1.5
"""Evidence (see below) that goes with a share; where classes overlap it was 1.2 at most, and mostly 0."""
FLOOR = 0.01
EVIDENCE = 7.0
"""Twice the log-likelihood ratio over a floor of 0.01; 0 on healthy data, p = 0.004 by chi-squared (one-sided)."""
FEWEST_SUSPECTS = 3
FITTED_ON = 2000
LINEAR_ENOUGH = 0.05
"""By how much neighbours may be right more often than a linear model whose margins are believed."""
LISTED = 500
PICTURES, FEWEST_PICTURES = 24, 9
ROBUST_DEVIATIONS = 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Opinions:
    """What two models that never saw an example's label say of it.

    `labels` (N,) are numbered anew, `names` (C,) are their class indices. `votes` and `probabilities` are (N, C).
    """

    indices: Array
    labels: Array
    names: Array
    votes: Array
    probabilities: Array

    @property
    def contradicted(self) -> Array:
        """Whether both are sure of the same other class, (N,)."""
        at = np.arange(len(self.labels))
        most, least, probability = SURE
        other = self.votes.argmax(axis=1)
        return np.asarray(
            (self.votes.max(axis=1) >= most)
            & (self.votes[at, self.labels] <= least)
            & (self.probabilities.argmax(axis=1) == other)
            & (self.probabilities[at, self.labels] < probability)
        )

    @property
    def one_way(self) -> float:
        """Return the share of the contradictions that are from one class to one other, at the most; 0 without any."""
        found = self.contradicted
        if not found.any():
            return 0.0
        pairs = self.labels[found] * len(self.names) + self.votes[found].argmax(axis=1)
        return float(np.unique(pairs, return_counts=True)[1].max() / found.sum())


def look(bench: Bench) -> Found:
    """Let neighbours and a linear discriminant judge each label of train and validation."""
    if not bench.classifies:
        return _numbers(bench)
    indices, whole = _judged(bench)
    if len(indices) < FEWEST or len(np.unique(bench.examples.targets[indices])) < 2:
        return skipped(f"{len(indices)} labels in classes of {FEWEST_OF_CLASS} or more are too few to judge them")
    opinions = _opinions(bench, indices)
    contradicted = opinions.contradicted
    number, share = int(contradicted.sum()), float(contradicted.mean())
    floor, evidence = _floor(bench, opinions)
    likely = share >= PLAIN or evidence > HINT or opinions.one_way >= ONE_WAY
    sure = number >= FEWEST_SUSPECTS and share >= CONTRADICTED and likely
    noisy = sure or evidence > EVIDENCE
    order = _worst_first(opinions)
    sampled = "" if len(indices) == whole else " in a sample"
    sentence = f"{number} of {len(indices)} labels{sampled} ({share:.2%}) look wrong: two simple models are sure of "
    sentence += "another class"
    if noisy:
        sentence += f"; about {max(floor, share):.1%} of all labels seem to be wrong"
    return Found(
        verdict=CheckVerdict.WARN if noisy else CheckVerdict.PASS,
        sentence=sentence,
        advice="look at the suspects, the worst are first; correct or drop what is wrong" if noisy else "",
        expected={"contradicted_share": CONTRADICTED},
        measured={
            "contradicted": number,
            "contradicted_share": share,
            "noise_share": floor,
            "noise_evidence": evidence,
        },
        evidence=_list(bench, opinions, order, number),
    )


def _judged(bench: Bench) -> tuple[Array, int]:
    """Return the indices of the labels to be judged, a sample where there are many, and how many there are in all."""
    indices, targets = learnable(bench), bench.examples.targets
    most, whole = max(FEWEST, int(bench.settings["examples"])), 0
    for number in (len(indices), most):  # a sample may hold too few of a class again
        if len(indices) > number:
            indices = np.sort(bench.generator("labels").choice(indices, number, replace=False))
        counts = np.bincount(targets[indices], minlength=bench.examples.num_outputs)
        indices = indices[counts[targets[indices]] >= FEWEST_OF_CLASS]
        whole = whole or len(indices)
    return indices, whole


def _opinions(bench: Bench, indices: Array) -> _Opinions:
    names, labels = np.unique(bench.examples.targets[indices], return_inverse=True)
    compact = vectors(bench).compact(indices)
    return _Opinions(
        indices=indices,
        labels=labels,
        names=names,
        votes=_votes(compact, labels),
        probabilities=_discriminant(compact, labels),
    )


def _votes(compact: Array, labels: Array) -> Array:
    """Return the shares of the classes among each example's neighbours (N, C), itself left out."""
    from sklearn.neighbors import NearestNeighbors

    nearest = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, algorithm="brute").fit(compact)
    found = nearest.kneighbors(compact, return_distance=False)
    itself = found == np.arange(len(labels))[:, None]
    itself[~itself.any(axis=1), -1] = True  # the last one goes where an example is none of its neighbours
    others = found[~itself].reshape(len(labels), NEIGHBOURS)
    votes = np.zeros((len(labels), labels.max() + 1), dtype=np.float32)
    np.add.at(votes, (np.arange(len(labels))[:, None], labels[others]), np.float32(1 / NEIGHBOURS))
    return votes


def _discriminant(compact: Array, labels: Array) -> Array:
    """Return probabilities (N, C) of a linear discriminant that was fitted on other folds."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1)
    folds = StratifiedKFold(FEWEST_OF_CLASS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of features that do not vary
        chances = cross_val_predict(model, compact, labels, cv=folds, method="predict_proba")
    return np.asarray(np.nan_to_num(chances))


def _floor(bench: Bench, opinions: _Opinions) -> tuple[float, float]:
    """Return the share of labels that are wrong however clear an example is, and how much speaks for it over 0.01.

    Where classes overlap, disagreement vanishes away from the boundary; wrong labels are everywhere alike. So the
    chance of a disagreement at a margin m (log-odds) is r + (1 - 2 r) / (1 + exp(a m)), with r fitted by maximum
    likelihood (contaminated logistic regression: Copas, "Binary regression models for contaminated data", 1988).
    Only examples of which both models say the same class count: elsewhere a linear margin means nothing.
    """
    said, voted = opinions.probabilities.argmax(axis=1), opinions.votes.argmax(axis=1)
    if np.mean(said == opinions.labels) < np.mean(voted == opinions.labels) - LINEAR_ENOUGH:
        return 0.0, 0.0  # classes that no hyperplane divides
    among = np.flatnonzero(said == voted)
    if len(among) > FITTED_ON:
        among = bench.generator("labels", "floor").choice(among, FITTED_ON, replace=False)
    ranked = np.sort(np.log(np.clip(opinions.probabilities[among].astype(np.float64), 1e-300, 1.0)), axis=1)
    margin = np.minimum(ranked[:, -1] - ranked[:, -2], 500.0)
    wrong = said[among] != opinions.labels[among]
    rates = np.array([FLOOR, 0.0, 0.005, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4])
    slopes = np.geomspace(0.02, 5.0, 25)
    fading = 1 / (1 + np.exp(np.minimum(slopes[:, None] * margin, 500.0)))
    likelihood = np.array([_likelihood(rate + (1 - 2 * rate) * fading, wrong) for rate in rates])
    best = int(likelihood.argmax())
    evidence = 2 * (likelihood[best] - likelihood[0]) if rates[best] > FLOOR else 0.0
    return float(rates[best]), float(evidence)


def _likelihood(chance: Array, happened: Array) -> float:
    """Return the greatest log-likelihood over the slopes, of chances (slopes, N)."""
    logs = np.log(np.clip(np.where(happened, chance, 1 - chance), 1e-12, 1.0))
    return float(logs.sum(axis=1).max())


def _worst_first(opinions: _Opinions) -> Array:
    """Return positions in the order of cleanlab's label quality, averaged over both models."""
    from cleanlab.rank import get_label_quality_ensemble_scores

    members = [_shares(opinions.votes), _shares(opinions.probabilities)]
    quality = get_label_quality_ensemble_scores(
        opinions.labels,
        members,
        method="self_confidence",
        weight_ensemble_members_by="accuracy",
        verbose=False,
    )
    return np.argsort(quality, kind="stable")


def _shares(chances: Array) -> Array:
    positive = np.asarray(chances, dtype=np.float64) + 1e-9
    return np.asarray(positive / positive.sum(axis=1, keepdims=True))


def _list(bench: Bench, opinions: _Opinions, order: Array, suspects: int) -> tuple[Evidence, ...]:
    """Return the suspects, worst first, as a table and as pictures."""
    both = (opinions.votes + opinions.probabilities) / 2
    contradicted, names, parts = opinions.contradicted, bench.examples.classes, part_of(bench)
    rows, captions = [], []
    for rank, at in enumerate(order[:LISTED], start=1):
        index, label, other = int(opinions.indices[at]), int(opinions.labels[at]), int(both[at].argmax())
        label_name, other_name = names[opinions.names[label]], names[opinions.names[other]]
        score = round(float(both[at, label]), 4)
        rows.append((rank, index, SPLITS[parts[index]], label_name, other_name, score, bool(contradicted[at])))
        captions.append(f"{index}: {label_name}, or {other_name}?")
    columns = ("rank", "index", "part", "label", "models_say", "label_score", "both_sure")
    shown = min(PICTURES, max(suspects, FEWEST_PICTURES))
    indices = opinions.indices[order[:shown]]
    seen = pictures(bench, "suspects", "labels the data disagrees with", indices, captions[:shown])
    return Sheet(name="suspects", columns=columns, rows=rows), *seen


def _numbers(bench: Bench) -> Found:
    """List the targets of a regression that lie far from what two models say; warn of a share of gross ones."""
    indices = learnable(bench)
    if len(indices) < FEWEST:
        return skipped(f"{len(indices)} targets are too few to judge them")
    most = int(bench.settings["examples"])
    sampled = " in a sample" if len(indices) > most else ""
    if sampled:
        indices = np.sort(bench.generator("labels").choice(indices, most, replace=False))
    targets = bench.examples.targets[indices].astype(np.float64)
    predicted = _predicted(vectors(bench).compact(indices), targets)
    distances = []
    for values in predicted:
        residual = targets - values
        middle = np.median(residual)
        spread = 1.4826 * np.median(np.abs(residual - middle))
        distances.append(np.abs(residual - middle) / (spread or 1.0))
    distance = np.minimum(*distances)
    gross = int(np.count_nonzero(distance > ROBUST_DEVIATIONS))
    noisy = gross >= FEWEST_SUSPECTS and gross >= FLOOR * len(indices)
    order, parts = np.argsort(-distance, kind="stable"), part_of(bench)
    rows = [
        (
            rank,
            int(indices[at]),
            SPLITS[parts[indices[at]]],
            float(targets[at]),
            *(round(float(p[at]), 6) for p in predicted),
            round(float(distance[at]), 3),
        )
        for rank, at in enumerate(order[:LISTED], start=1)
    ]
    columns = ("rank", "index", "part", "target", "linear_says", "neighbours_say", "robust_deviations")
    shown = min(PICTURES, max(gross, FEWEST_PICTURES))
    captions = [f"{row[1]}: {row[3]:.4g}, or {row[4]:.4g}?" for row in rows[:shown]]
    seen = pictures(bench, "suspects", "targets far from what simple models say", indices[order[:shown]], captions)
    return Found(
        verdict=CheckVerdict.WARN if noisy else CheckVerdict.PASS,
        sentence=f"{gross} of {len(indices)} targets{sampled} lie more than {ROBUST_DEVIATIONS:.0f} robust standard "
        f"deviations from what two simple models say; the farthest {distance.max():.1f}",
        advice="look at the suspects for slips of the decimal point or the unit, or predict the logarithm"
        if noisy
        else "",
        measured={"gross": gross, "farthest": float(distance.max())},
        evidence=(Sheet(name="suspects", columns=columns, rows=rows), *seen),
    )


def _predicted(compact: Array, targets: Array) -> tuple[Array, Array]:
    """Return what a linear model and neighbours that were fitted on other folds predict, two arrays (N,)."""
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.neighbors import KNeighborsRegressor

    folds = KFold(FEWEST_OF_CLASS, shuffle=True, random_state=0)
    models = (Ridge(alpha=1.0), KNeighborsRegressor(NEIGHBOURS))
    linear, neighbours = (np.asarray(cross_val_predict(model, compact, targets, cv=folds)) for model in models)
    return linear, neighbours


CHECK = Check(row="R04", title="labels the data disagrees with", look=look)
