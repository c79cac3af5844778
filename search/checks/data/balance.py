"""R03: there are enough examples, of every class and in every part."""

from __future__ import annotations

import numpy as np

from search.checks.bench import Bench
from search.checks.check import Check, Found
from search.checks.data.remarks import Remark, failed, found_of, listed, warned
from search.checks.evidence import Array, Bars, Sheet
from search.layout import SPLITS

FEW_IN_ALL = 30
"""Training examples: under it, hardly anything but the mean can be estimated."""
FEW_OF_CLASS = 5
FEW_TO_JUDGE = 2
"""Validation examples of a class: one alone is right or wrong by luck."""
IMBALANCE = 20.0
"""Most frequent over rarest class, in training."""
ABSENT, MANY_CLASSES = 0.02, 20
"""Share of the validation examples: in a long tail of so many classes some rare ones may miss training."""
P_VALUE = 1e-4
DISTANCE = 0.05
"""Share of a part's examples that would have to change class: with many examples any p-value becomes small."""


def look(bench: Bench) -> Found:
    """Count the targets of each part; of the test split nothing else is done with them."""
    return _of_classes(bench) if bench.classifies else _of_numbers(bench)


def _of_classes(bench: Bench) -> Found:
    names = bench.examples.classes
    counts = np.stack([np.bincount(bench.examples.targets[bench.split.of(p)], minlength=len(names)) for p in SPLITS])
    train, validation, _ = counts
    majority = int(train.argmax())
    accuracy = validation[majority] / max(1, validation.sum())
    rarest = train[train > 0].min(initial=train.max())
    measured = {
        "majority_accuracy": float(accuracy),
        "imbalance": float(train.max() / max(1, rarest)),
        "rarest_class_train": float(train.min()),
        "train_examples": float(train.sum()),
    }
    fine = (
        f"{len(names)} classes with {train.min()} to {train.max()} training examples each; always answering "
        f"{names[majority]} has a validation accuracy of {accuracy:.3f}"
    )
    rows = sorted(zip(names, *(map(int, row) for row in counts), strict=True), key=lambda row: (row[1], row[0]))
    return found_of(
        [
            *_missing(names, train, validation),
            *_rare(names, train, validation),
            *_few(train.sum()),
            *_different(counts),
        ],
        fine,
        measured=measured,
        evidence=(
            Bars(
                name="counts",
                title="examples of each class",
                y="examples",
                labels=names,
                bars=dict(zip(SPLITS, counts, strict=True)),
            ),
            Sheet(name="counts", columns=("class", *SPLITS), rows=rows),
        ),
    )


def _missing(names: tuple[str, ...], train: Array, validation: Array) -> list[Remark]:
    if np.count_nonzero(train) == 1:
        only = names[int(train.argmax())]
        return [failed(f"all {train.sum()} training examples are of class {only}", "look at how the data is divided")]
    absent = np.flatnonzero(train == 0)
    if not len(absent):
        return []
    advice = "divide the data so that training has every class, or leave these classes out"
    rare = validation[absent].sum() < ABSENT * validation.sum() and len(names) >= MANY_CLASSES
    words = f"no training example of class {listed([names[c] for c in absent])}"
    return [(warned if rare else failed)(words, advice)]


def _rare(names: tuple[str, ...], train: Array, validation: Array) -> list[Remark]:
    remarks = []
    advice = "gather more examples of the rare classes, or give them a larger weight in the loss"
    rare = [f"{names[c]} ({train[c]})" for c in np.flatnonzero((train > 0) & (train < FEW_OF_CLASS))]
    if rare:
        remarks.append(warned(f"fewer than {FEW_OF_CLASS} training examples of class {listed(rare)}", advice))
    present = train[train > 0]
    if present.max() > IMBALANCE * present.min():
        ratio = present.max() / present.min()
        remarks.append(warned(f"the largest class has {ratio:.4g} times as many examples as the rarest", advice))
    unjudged = [f"{names[c]} ({validation[c]})" for c in np.flatnonzero((validation < FEW_TO_JUDGE) & (train > 0))]
    if unjudged:
        words = f"fewer than {FEW_TO_JUDGE} validation examples of class {listed(unjudged)}"
        remarks.append(warned(words, "a larger split.fractions for validation, or more examples of these classes"))
    return remarks


def _few(number: int) -> list[Remark]:
    if number >= FEW_IN_ALL:
        return []
    return [warned(f"only {number} training examples", "gather more: figures of so few examples are mostly luck")]


def _different(counts: Array) -> list[Remark]:
    """Return a remark where the parts have other shares of the classes than chance gives them."""
    from scipy.stats import chi2_contingency

    pooled = _pooled(counts)
    if pooled.shape[1] < 2:
        return []
    p = float(chi2_contingency(pooled).pvalue)
    shares = counts / counts.sum(axis=1, keepdims=True)
    distance = float(np.abs(shares - shares[0]).sum(axis=1).max() / 2)
    if p >= P_VALUE or distance < DISTANCE:
        return []
    words = f"the parts differ in their shares of the classes (chi-square p={p:.2g}, up to {distance:.1%} of a part)"
    return [warned(words, "split.stratify=true, or find out why the parts differ")]


def _pooled(counts: Array) -> Array:
    """Return the counts with classes put together that are too rare for the chi-square distribution (Cochran 1954)."""
    expected = counts.sum(axis=0) * counts.sum(axis=1).min() / counts.sum()
    rare = expected < 5
    pooled = np.concatenate([counts[:, ~rare], counts[:, rare].sum(axis=1, keepdims=True)], axis=1)
    return pooled[:, pooled.sum(axis=0) > 0]


def _of_numbers(bench: Bench) -> Found:
    targets = bench.examples.targets
    train, validation = targets[bench.split.train], targets[bench.split.validation]
    remarks = _few(len(train))
    if np.ptp(train) == 0:
        words = f"all {len(train)} training targets are {train[0]:.4g}"
        remarks.append(failed(words, "there is nothing to learn: look at which column is the target"))
    else:
        remarks += _shifted(train, validation)
    edges = np.histogram_bin_edges(np.concatenate([train, validation]), bins=20)
    parts = {"train": train, "validation": validation}  # of the test split's targets none but the number is looked at
    return found_of(
        remarks,
        f"{len(train)} training targets of mean {train.mean():.4g} and standard deviation {train.std():.4g}; "
        f"always answering the mean has an error of 1 in units of the variance",
        measured={
            "train_examples": len(train),
            "target_mean": float(train.mean()),
            "target_std": float(train.std()),
        },
        evidence=(
            Bars(
                name="targets",
                title="targets",
                y="share",
                labels=tuple(f"{edge:.3g}" for edge in edges[:-1]),
                bars={name: np.histogram(part, edges)[0] / len(part) for name, part in parts.items()},
            ),
        ),
    )


def _shifted(train: Array, validation: Array) -> list[Remark]:
    from scipy.stats import ks_2samp

    test = ks_2samp(train, validation, method="asymp")
    if test.pvalue >= P_VALUE or test.statistic < 2 * DISTANCE:
        return []
    words = f"targets of train and validation are distributed differently (Kolmogorov-Smirnov p={test.pvalue:.2g})"
    return [warned(words, "find out why the parts differ; a random split would not")]


CHECK = Check(row="R03", title="balance of classes", look=look)
