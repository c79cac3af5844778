"""R21: training and evaluation differ where they should, and evaluation is of each example."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from search.checks.bench import Bench, minibatches, without_dropout
from search.checks.check import Check, Found
from search.checks.evidence import Array, Bars
from search.checks.setup.parts import (
    FAIL,
    PASS,
    SKIP,
    WARN,
    Part,
    awaken,
    buffers_kept,
    distance,
    found_of,
    listed,
    outputs_of,
    precise,
)
from search.records import Verdict
from search.train import loop, steps
from search.train.batches import Batch
from search.train.data.arrays import Dataset, Split
from search.train.estimator import Estimator
from search.train.losses import predictions_of
from search.train.setup import Setup

EXAMPLES = 32
ROUNDING = 1e-5
"""Difference of outputs over the largest; passes of one shape differ by nothing, but for atomic sums on a GPU."""
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
Healthy nets with momentum 0.1: 0.97 and more; with 0.001 in 90 steps -0.4 to 0.4."""


def look(bench: Bench) -> Found:
    """Look at the switches of a new network, at what it does in both modes, and at an epoch with its evaluation."""
    batch = bench.batch(2 * EXAMPLES)[0]
    model = bench.setup().model
    awaken(model, bench.seed % 2**32)
    with precise():
        parts = [_switches(model), *_gradients(model, batch)]
        passes, differences = _passes(model, batch)
        parts += [*passes, *_norms(model, batch)]
        if not any(part.verdict is FAIL for part in parts):  # else predictions would be wrong for a known reason
            parts += _evaluation(bench)
    bars = Bars(
        name="passes",
        title="two passes of one batch with other random numbers",
        y="largest difference over largest output",
        labels=tuple(differences),
        bars={"difference": np.array(list(differences.values()))},
    )
    return found_of(
        parts,
        passed=_passed(parts),
        measured={f"difference_in_{mode}": value for mode, value in differences.items()},
        evidence=(bars,),
    )


def _passed(parts: Sequence[Part]) -> str:
    """Return what can be said of all parts where nothing is wrong: those first that not every model has."""
    words = {part.what: part.words for part in parts if part.verdict is PASS}
    order = ("dropout", "batch norm", "predictions")
    return "; ".join(["two passes in evaluation mode are the same", *(words[what] for what in order if what in words)])


def _switches(model: Estimator) -> Part:
    """Look whether `train()` and `eval()` reach every layer; frozen ones may stay in evaluation."""
    model.eval()
    in_training = _in_mode(model, training=True)
    model.train()
    in_evaluation = [name for name in _in_mode(model, training=False) if not _is_frozen(model, name)]
    acting = [name for name in in_training if isinstance(model.get_submodule(name), _DropoutNd | _BatchNorm)]
    if in_training:
        words = f"model.eval() leaves {listed(acting or in_training)} in training"
        advice = "a train() or eval() of one's own has to call that of nn.Module"
        return Part(what="switches", verdict=FAIL if acting else WARN, words=words, advice=advice)
    if in_evaluation:
        words = f"model.train() leaves {listed(in_evaluation)} in evaluation, with weights that are trained"
        advice = "have train() reach it, or freeze its weights"
        return Part(what="switches", verdict=WARN, words=words, advice=advice)
    return Part(what="switches", verdict=PASS, words="train() and eval() reach every layer")


def _in_mode(model: nn.Module, *, training: bool) -> list[str]:
    return [name for name, module in model.named_modules() if module.training == training]


def _is_frozen(model: nn.Module, name: str) -> bool:
    """Tell whether a layer, or one that it is part of and that is in evaluation too, has frozen weights alone."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        module = model.get_submodule(".".join(parts[:end]))
        weights = list(module.parameters())
        if module.training:
            return False
        if weights:
            return not any(w.requires_grad for w in weights)
    return False


def _gradients(model: Estimator, inputs: Tensor) -> list[Part]:
    """Look whether a pass leaves gradients on."""
    for mode in ("training", "evaluation"):
        model.train(mode == "training")
        with torch.enable_grad(), buffers_kept(model):
            steps.seed_everything(0)
            model(inputs)
            is_on = torch.is_grad_enabled()
        if not is_on:
            words = f"a pass in {mode} mode leaves gradients off for all that comes after"
            return [Part(what="gradients", verdict=FAIL, words=words, advice="use `with torch.no_grad():` in forward")]
    return []


def _passes(model: Estimator, inputs: Tensor) -> tuple[list[Part], dict[str, float]]:
    """Look whether two passes with other random numbers differ in training, and do not in evaluation."""
    model.train()
    dropouts = [name for name, m in model.named_modules() if isinstance(m, _DropoutNd) and m.p > 0 and m.training]
    differences = {}
    for mode in ("training", "evaluation"):
        model.train(mode == "training")
        before = _in_mode(model, training=mode == "training")
        differences[mode] = distance(*(outputs_of(model, inputs, seed=seed) for seed in (1, 2)))
        if _in_mode(model, training=mode == "training") != before:
            words = f"a pass in {mode} mode changes the mode of the network's layers"
            return [
                Part(what="passes", verdict=WARN, words=words, advice="call no eval() or train() in forward")
            ], differences
    parts = []
    if differences["evaluation"] > ROUNDING:
        words = f"two passes in evaluation mode differ by {differences['evaluation']:.3g} of the largest output"
        advice = "dropout is left on: use nn.Dropout, or give functional.dropout training=self.training"
        parts.append(Part(what="evaluation", verdict=FAIL, words=words, advice=advice))
    else:
        parts.append(Part(what="evaluation", verdict=PASS, words="two passes in evaluation mode are the same"))
    if dropouts and differences["training"] == 0:
        words = f"dropout changes nothing in training mode ({listed(dropouts)})"
        advice = "is it called in forward, and is the model in training mode there?"
        parts.append(Part(what="dropout", verdict=WARN, words=words, advice=advice))
    elif dropouts:
        words = f"with dropout, those in training mode differ by {differences['training']:.3g} of the largest output"
        parts.append(Part(what="dropout", verdict=PASS, words=words))
    return parts, differences


def _norms(model: Estimator, batch: Tensor) -> list[Part]:
    """Look whether evaluation takes the running statistics, and training moves them."""
    inputs = batch[: len(batch) // 2]
    norms = {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}
    if not norms or len(inputs) < 2:
        return []
    model.eval()
    alone = len(inputs) // 2
    mixed = torch.cat([inputs[:alone], batch[len(inputs) : 2 * len(inputs) - alone]])
    change = distance(outputs_of(model, mixed)[:alone], outputs_of(model, inputs)[:alone])
    if change > ROUNDING:
        words = f"in evaluation outputs change by {change:.3g} of the largest with the rest of their batch"
        advice = (
            "batch norm must take its running statistics in evaluation: track_running_stats=True, and eval() reach it"
        )
        return [Part(what="batch norm", verdict=FAIL, words=words, advice=advice)]
    model.train()
    tracked = {name: m for name, m in _norms_of(model).items() if m.training}
    with buffers_kept(model), torch.no_grad():
        before = {name: _running(m) for name, m in tracked.items()}
        steps.seed_everything(0)
        model(batch)
        still = [name for name, m in tracked.items() if torch.equal(_running(m), before[name])]
    if still:
        words = f"the running statistics of {listed(still)} do not move in training"
        advice = "evaluation takes them: is the layer called in forward, and its momentum above 0?"
        return [Part(what="batch norm", verdict=WARN, words=words, advice=advice)]
    words = "batch norm's running statistics move in training, and evaluation takes them"
    return [Part(what="batch norm", verdict=PASS, words=words)]


def _running(norm: _BatchNorm) -> Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return torch.cat([norm.running_mean, norm.running_var]).clone()


def _evaluation(bench: Bench) -> Iterator[Part]:
    """Train an epoch on few examples; compare its predictions and figures with those of a loop of our own."""
    setup = _small(bench)
    told: dict[str, float] = {}

    def report(_: int, figures: Mapping[str, float]) -> tuple[Verdict, str]:
        told.update(figures)
        return Verdict.GO_ON, ""

    initial = _loss(setup, training=True) if _norms_of(setup.model) else 0.0
    try:
        fitted = setup.training().fit(report)
    except loop.NonFiniteError as error:
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
    if _norms_of(setup.model):
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
        here = max(float(np.abs(predictions - whole).max()), float(np.abs(predictions[single] - one).max())) / largest
        if not here <= TOLERANCE:
            words = f"predictions {words} differ from those of single examples by {here:.3g} of the largest"
            return Part(what=what, verdict=FAIL, words=words, advice=advice)
        off = max(off, here)
    words = f"each of {len(indices)} validation examples has its prediction, the same in batches and alone to {off:.1g}"
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
    train, size = setup.dataset.split.train, setup.plan.batch_size
    return setup.batches(steps.epoch_order(train, setup.seed, 1, size), size)


def _lag(setup: Setup, initial: float, num_steps: int) -> Part:
    """Let the running statistics follow as they do in so many steps, and compare the loss with and without them.

    Where that is more than is looked at, the momentum is raised, so that as much is left of their initial values.
    """
    without_dropout(setup.model)
    setup.model.train()
    looked = min(num_steps, STATISTICS_STEPS)
    norms = [m for m in _norms_of(setup.model).values() if m.training]
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


def _norms_of(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return the batch norms that keep running statistics."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm) and m.running_mean is not None}


CHECK = Check(row="R21", title="training and evaluation modes", look=look)
