"""R13: what a setup has to beat: the majority class or the target's mean, a linear model, the nearest neighbour."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from search.checks.baselines.short_run import (
    CLEAR,
    UNCLEAR,
    VALIDATION_EXAMPLES,
    Run,
    better_rate,
    constant_output,
    longer_run,
    short_run,
)
from search.checks.bench import Bench
from search.checks.check import Check, Found
from search.checks.evidence import Bars
from search.records import CheckVerdict
from search.train.data.arrays import Array
from search.train.metrics import Metric, metrics_of
from search.train.setup import Setup

EXAMPLES = 2000
"""Training examples that the linear model and the neighbours are drawn from."""
LEAST = 20
"""Validation examples without which no difference is clear."""

FARTHEST = 1e3
"""Standard deviations off the mean: a linear model overflows where a network may only learn poorly."""


def look(bench: Bench) -> Found:
    """Score the dumb baselines and a short run on the validation split."""
    run = short_run(bench)
    metric, targets = run.setup.metric, run.targets
    dumb = _majority(bench, len(targets))
    word = "majority" if bench.classifies else "mean"
    predictions = {word: dumb, **_simple(bench, run.setup)}
    if not _is_clear(run, dumb) and run.moves:
        run = longer_run(bench)
    measured = {name: metric(p, targets) for name, p in predictions.items()}
    measured["short_run"] = metric(run.predictions, targets) if run.finite else np.nan
    verdict = _verdict(bench, run, dumb)
    return Found(
        verdict=verdict,
        sentence=_sentence(bench, run, metric, measured, word, verdict),
        advice="" if verdict in (CheckVerdict.PASS, CheckVerdict.SKIP) else _advice(bench),
        expected={"short_run": measured[word]},
        measured=measured,
        evidence=(
            Bars(
                name="baselines",
                title="dumb baselines and a short run, on validation",
                y=metric.name,
                labels=tuple(measured),
                bars={metric.name: np.array(list(measured.values()))},
                levels={word: measured[word]},
            ),
        ),
    )


def beats(run: Run, dumb: Array) -> bool:
    """Tell whether the run is better than these predictions, by the metric or by the task's own loss."""
    loss = metrics_of(run.setup.dataset.examples.task)["loss"]
    return run.finite and any(
        metric.better(metric(run.predictions, run.targets), metric(dumb, run.targets))
        for metric in (run.setup.metric, loss)
    )


def _is_clear(run: Run, dumb: Array) -> bool:
    """Tell whether the run is better than knowing nothing, and not by chance."""
    return beats(run, dumb) and run.fit >= CLEAR


def _verdict(bench: Bench, run: Run, dumb: Array) -> CheckVerdict:
    if _is_clear(run, dumb):
        return CheckVerdict.PASS
    if len(run.targets) < LEAST:
        return CheckVerdict.SKIP
    if run.fit >= UNCLEAR or better_rate(bench) is not None:
        return CheckVerdict.WARN
    return CheckVerdict.FAIL


def _sentence(
    bench: Bench, run: Run, metric: Metric, measured: dict[str, float], word: str, verdict: CheckVerdict
) -> str:
    name = "the majority class" if bench.classifies else "the target's mean"
    others = (
        f"{metric.name} on {len(run.targets)} validation examples: {name} {measured[word]:.4g}, a linear model "
        f"{measured['linear']:.4g}, the nearest neighbour {measured['nearest']:.4g}, the setup after "
        f"{len(run.losses)} mini-batches {measured['short_run']:.4g}"
    )
    if verdict is CheckVerdict.PASS:
        return others
    if verdict is CheckVerdict.SKIP:
        return f"too few validation examples to compare by; {others}"
    return f"a short run is not clearly better than {name}; {others}"


def _advice(bench: Bench) -> str:
    better = better_rate(bench)
    if better is not None:
        return f"set the learning rate right first: at {better[0]:g} times the composed one a short run learns"
    return (
        "look for labels that do not belong to their inputs, inputs that the network does not see, or a loss that "
        "does not fit; where the signal is truly weak, raise preflight.steps"
    )


def _majority(bench: Bench, number: int) -> Array:
    """Return the same prediction for each example: the classes' shares (N, C), or the mean (N,)."""
    output = constant_output(bench.dataset)
    return np.tile(np.exp(output), (number, 1)) if bench.classifies else np.repeat(output, number)


def _simple(bench: Bench, setup: Setup) -> dict[str, Array]:
    """Return the predictions of a linear model and of the nearest neighbour, each fitted to training examples."""
    chosen = bench.sample("train", EXAMPLES)
    train, targets = _inputs(setup, chosen), bench.examples.targets[chosen]
    validation = _inputs(setup, bench.sample("validation", VALIDATION_EXAMPLES))
    if not bench.classifies:
        return _numbers(train, targets, validation)
    if len(np.unique(targets)) < 2:
        return dict.fromkeys(("linear", "nearest"), _majority(bench, len(validation)))
    return _classes(train, targets, validation, np.exp(constant_output(bench.dataset)))


def _classes(train: Array, targets: Array, validation: Array, shares: Array) -> dict[str, Array]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    model = LogisticRegression(max_iter=100)
    with warnings.catch_warnings():  # nearly there is good enough for a dumb baseline
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, targets)
    linear = np.zeros((len(validation), len(shares)))
    linear[:, model.classes_] = model.predict_proba(validation)
    found = KNeighborsClassifier(1).fit(train, targets).predict(validation)
    # A neighbour is not sure of its class: else one mistake makes its loss infinite.
    return {"linear": linear, "nearest": (np.eye(len(shares))[found] + shares) / 2}


def _numbers(train: Array, targets: Array, validation: Array) -> dict[str, Array]:
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsRegressor

    return {
        "linear": Ridge(alpha=1.0).fit(train, targets).predict(validation),
        "nearest": KNeighborsRegressor(1).fit(train, targets).predict(validation),
    }


def _inputs(setup: Setup, indices: Array) -> Array:
    """Return the examples as the network is given them, flattened (N, F)."""
    with torch.no_grad():
        parts = [
            setup.model.standardised(inputs).flatten(1).cpu().numpy()
            for inputs, _, _ in setup.batches(torch.as_tensor(indices), 1024)
        ]
    return np.asarray(np.clip(np.concatenate(parts), -FARTHEST, FARTHEST))


CHECK = Check(row="R13", title="dumb baselines", look=look)
