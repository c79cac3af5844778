"""What needs no network: a constant prediction, a linear model, the nearest neighbour."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from search.checks.baselines.sampled import sample
from search.checks.baselines.short_run import association, constant_output, looked_at, short_run
from search.checks.bench import Bench
from search.train.data.arrays import Array
from search.train.metrics import metrics_of
from search.train.setup import Setup

EXAMPLES = 2000
"""Training examples that the linear model and the neighbours are drawn from."""
FARTHEST = 1e3
"""Standard deviations off the mean: a linear model overflows where a network may only learn poorly."""
CLEARLY = 5.0
"""Standard errors at which a simple model tells beyond doubt that inputs say something about targets."""
AT_ONCE = 256


def simple(bench: Bench) -> dict[str, Array]:
    """Return what a linear model and the nearest neighbour predict for `looked_at`; made once for all checks."""
    return bench.once("simple models", lambda: _simple(bench, short_run(bench).setup))


def signal(bench: Bench) -> float:
    """Return by how many standard errors the better simple model fits; 0 where none beats a constant prediction."""
    setup, indices = short_run(bench).setup, looked_at(bench)
    targets, task = bench.examples.targets[indices], bench.examples.task
    dumb = constant(bench)
    good = [p for p in simple(bench).values() if is_better(setup, p, dumb, targets)]
    return max((association(p, targets, task) for p in good), default=0.0)


def finds(bench: Bench) -> bool:
    """Tell whether a simple model finds beyond doubt what inputs say about targets."""
    return signal(bench) >= CLEARLY


def is_better(setup: Setup, predictions: Array, dumb: Array, targets: Array) -> bool:
    """Tell whether predictions are better than others, by the metric or by the task's own loss."""
    loss = metrics_of(setup.dataset.examples.task)["loss"]
    return any(metric.better(metric(predictions, targets), metric(dumb, targets)) for metric in (setup.metric, loss))


def constant(bench: Bench) -> Array:
    """Return the same prediction for each example of `looked_at`: the classes' shares (N, C), or the mean (N,)."""
    number = len(looked_at(bench))
    output = constant_output(bench.dataset)
    return np.tile(np.exp(output), (number, 1)) if bench.classifies else np.repeat(output, number)


def _simple(bench: Bench, setup: Setup) -> dict[str, Array]:
    """Return the predictions of a linear model and of the nearest neighbour, each fitted to training examples."""
    chosen = sample(bench, "train", EXAMPLES)
    train, targets = _inputs(bench, setup, chosen), bench.examples.targets[chosen]
    validation = _inputs(bench, setup, looked_at(bench))
    if not bench.classifies:
        return _numbers(train, targets, validation)
    if len(np.unique(targets)) < 2:
        return dict.fromkeys(("linear", "nearest"), constant(bench))
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
    drawn = np.bincount(targets, minlength=len(shares))[model.classes_] / len(targets)
    linear[:, model.classes_] = model.predict_proba(validation) * shares[model.classes_] / drawn  # more of the rare
    linear /= linear.sum(axis=1, keepdims=True)
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


def _inputs(bench: Bench, setup: Setup, indices: Array) -> Array:
    """Return the examples as the network should be given them, flattened (N, F): from the data, not from batches."""
    with torch.no_grad():
        parts = [
            setup.model.standardised(torch.from_numpy(np.array(bench.examples.inputs[some])).to(bench.device))
            for some in np.array_split(indices, max(1, len(indices) // AT_ONCE))
        ]
    flat = np.concatenate([part.flatten(1).cpu().numpy() for part in parts])
    return np.asarray(np.clip(flat, -FARTHEST, FARTHEST))
