"""R21, of evaluation: each example has its prediction, and figures are over all of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from search.checks.bench import Bench, minibatches, without_dropout
from search.checks.evidence import Array
from search.checks.setup.parts import (
    FAIL,
    PASS,
    SKIP,
    WARN,
    Part,
    buffers_kept,
    tracked_norms,
)
from search.records import Verdict
from search.train import loop, steps
from search.train.batches import Batch
from search.train.data.arrays import Dataset, Split
from search.train.losses import predictions_of
from search.train.setup import Setup

TOLERANCE = 1e-3
"""Difference of predictions over the largest; batches of other sizes are summed in another order, to about 1e-6."""
TRAIN_EXAMPLES, VALIDATION_EXAMPLES, SINGLE_EXAMPLES = 320, 1100, 24
"""Of the evaluation that is looked at; those of validation make more than one of the loop's batches."""
ODD_BATCH = 13
STATISTICS_STEPS = 40
LAG = 0.5
"""Loss in evaluation mode above that in training mode, over that of a new network: far worse."""
PROGRESS, KEPT = 0.1, 0.5
"""A gain over the loss of a new network that can be judged, and the share of it that evaluation mode has to see.
Healthy nets with momentum 0.1: 0.9 and more; with 0.001 in 90 steps -0.4 to 0.4."""


def look(bench: Bench) -> Iterator[Part]:
    """Train an epoch on few examples; compare its predictions and figures with those of a loop of our own."""
    setup = _small(bench)
    told: dict[str, float] = {}

    def report(_: int, figures: Mapping[str, float]) -> tuple[Verdict, str]:
        told.update(figures)
        return Verdict.GO_ON, ""

    initial = _loss(setup, training=True) if tracked_norms(setup.model) else 0.0
    try:
        fitted = setup.training().fit(report)
    except steps.NonFiniteError as error:
        yield Part(what="predictions", verdict=SKIP, words=str(error))
        return
    validation, task = setup.dataset.split.validation, setup.dataset.examples.task
    given = {
        "of an epoch": fitted.predictions,
        f"in batches of {loop.EVALUATION_BATCH}": loop.predict(setup.model, setup.batches, validation, task),
        f"in batches of {ODD_BATCH}": loop.predict(setup.model, setup.batches, validation, task, ODD_BATCH),
    }
    yield _predictions(setup, given)
    yield _figures(setup, fitted.predictions, told)
    if tracked_norms(setup.model):
        yield _lag(
            setup,
            initial,
            bench.config["trainer"]["epochs"] * math.ceil(len(bench.split.train) / setup.plan.batch_size),
        )


def _small(bench: Bench) -> Setup:
    """Return a setup that trains for an epoch on few examples."""
    setup = bench.setup()
    parts = {
        "train": bench.sample("train", TRAIN_EXAMPLES),
        "validation": bench.sample("validation", VALIDATION_EXAMPLES),
    }
    dataset = Dataset(examples=bench.examples, split=Split(**parts, test=bench.split.test))
    return dataclasses.replace(setup, dataset=dataset, plan=dataclasses.replace(setup.plan, epochs=1))


def _predictions(setup: Setup, given: Mapping[str, Array]) -> Part:
    """Compare predictions with those of single examples, and of batches gathered here."""
    indices = setup.dataset.split.validation
    single = np.linspace(0, len(indices) - 1, min(SINGLE_EXAMPLES, len(indices))).astype(int)
    whole, one = _own(setup, indices, math.ceil(len(indices) / 64)), _singles(setup, indices[single])
    if one is None:
        words = "a single example cannot be evaluated"
        return Part(what="predictions", verdict=SKIP, words=words)
    largest, off = max(float(np.abs(whole).max()), 1e-30), 0.0
    what, advice = "predictions", "evaluation has to give each example's own prediction, whatever batch it is in"
    for words, predictions in given.items():
        if len(predictions) != len(indices):
            words = f"predictions {words} are {len(predictions)} of {len(indices)} validation examples"
            return Part(what=what, verdict=FAIL, words=words, advice="evaluate the whole split, its last batch too")
    if float(np.abs(whole[single] - one).max()) > TOLERANCE * largest:
        words = "an example's prediction depends on the batch that it is in, whoever evaluates it: see R18 and R23"
        return Part(what=what, verdict=SKIP, words=words)
    for words, predictions in given.items():
        here = max(float(np.abs(predictions - whole).max()), float(np.abs(predictions[single] - one).max())) / largest
        if not here <= TOLERANCE:
            words = f"predictions {words} differ from those of single examples by {here:.3g} of the largest"
            return Part(what=what, verdict=FAIL, words=words, advice=advice)
        off = max(off, here)
    words = f"predictions of the {len(indices)} validation examples do not depend on the batch size (to {off:.1g})"
    return Part(what=what, verdict=PASS, words=words)


def _singles(setup: Setup, indices: Array) -> Array | None:
    try:
        return _own(setup, indices, len(indices))
    except Exception:  # noqa: BLE001 - the user's model may do anything; R22 says what
        return None


def _own(setup: Setup, indices: Array, number: int) -> Array:
    """Return predictions by a loop of our own in so many batches."""
    examples = setup.dataset.examples
    device = setup.model.mean.device
    setup.model.eval()
    with torch.no_grad():
        batches = (torch.tensor(examples.inputs[part]).to(device) for part in np.array_split(indices, number))
        return np.concatenate([predictions_of(setup.model(batch), examples.task) for batch in batches])


def _figures(setup: Setup, predictions: Array, told: Mapping[str, float]) -> Part:
    """Compare the figures that an epoch reported with those over all its predictions."""
    examples, indices = setup.dataset.examples, setup.dataset.split.validation
    if len(predictions) != len(indices):
        return Part(what="figures", verdict=SKIP, words="predictions are not of all examples")
    figures = _from_scratch(predictions.astype(np.float64), examples.targets[indices], examples.task)
    for name, figure in figures.items():
        reported = told[f"val/{name}"]
        if abs(reported - figure) > TOLERANCE * max(abs(figure), TOLERANCE):
            words = f"{name} is reported as {reported:.4f} and is {figure:.4f} over all validation predictions"
            advice = "compute it over the whole split at once, not as a mean over batches or epochs"
            return Part(what="figures", verdict=FAIL, words=words, advice=advice)
    words = f"reported figures are those over the whole split ({', '.join(figures)})"
    return Part(what="figures", verdict=PASS, words=words)


def _from_scratch(predictions: Array, targets: Array, task: str) -> dict[str, float]:
    if task == "classification":
        right = sum(int(p.argmax() == t) for p, t in zip(predictions, targets, strict=True))
        losses = [-np.log(max(p[t], 1e-12)) for p, t in zip(predictions, targets, strict=True)]
        return {"accuracy": right / len(targets), "loss": float(np.mean(losses))}
    errors = predictions - targets
    squared = float(np.mean(errors**2))
    return {"loss": squared, "rmse": squared**0.5, "mae": float(np.mean(np.abs(errors)))}


def _loss(setup: Setup, *, training: bool) -> float:
    """Return the mean loss of the training examples, in batches as they are trained on."""
    setup.model.train(training)
    total, number = 0.0, 0
    with torch.no_grad(), buffers_kept(setup.model):
        steps.seed_everything(0)
        for inputs, targets, indices in _epoch(setup):
            total += float(setup.loss(setup.model(inputs), targets, indices)) * len(targets)
            number += len(targets)
    return total / number


def _epoch(setup: Setup) -> Iterator[Batch]:
    plan = dataclasses.replace(setup.plan, accumulate=1)  # no batch of these is a single example
    return setup.batches(steps.order_of(setup.dataset, plan, setup.seed, 1), plan.batch_size)


def _lag(setup: Setup, initial: float, num_steps: int) -> Part:
    """Let the running statistics follow as they do in so many steps, and compare the loss with and without them.

    Where that is more than is looked at, the momentum is raised, so that as much is left of their initial values.
    """
    without_dropout(setup.model)
    setup.model.train()
    looked = min(num_steps, STATISTICS_STEPS)
    norms = [m for m in tracked_norms(setup.model).values() if m.training]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        if norm.momentum is not None:
            norm.momentum = 1 - (1 - min(norm.momentum, 1.0)) ** (num_steps / looked)
    with torch.no_grad():
        for inputs, _, _ in minibatches(setup, looked):
            setup.model(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    training, evaluation = (_loss(setup, training=mode) for mode in (True, False))
    words = (
        f"with batch norm's statistics as after {num_steps} steps the loss on training data is {evaluation:.4f} "
        f"in evaluation mode, {training:.4f} in training mode"
    )
    gain = initial - training
    lost = gain > PROGRESS * abs(initial) and initial - evaluation < KEPT * gain
    if lost or not evaluation - training <= LAG * max(abs(initial), abs(training)):
        advice = f"its running statistics lag: raise its momentum ({_numbers(momenta)}; 0.1 is usual) or train longer"
        return Part(what="running statistics", verdict=WARN, words=words, advice=advice)
    return Part(what="running statistics", verdict=PASS, words=words)


def _numbers(momenta: Sequence[float | None]) -> str:
    return ", ".join(dict.fromkeys(f"{m:.3g}" for m in momenta if m is not None))
