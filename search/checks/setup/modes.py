"""R21: training and evaluation differ where they should, and evaluation is of each example."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from search.checks.bench import Bench
from search.checks.check import Check, Found
from search.checks.evidence import Bars
from search.checks.setup import evaluation, variance_shift
from search.checks.setup.parts import (
    FAIL,
    PASS,
    WARN,
    Part,
    awaken,
    buffers_kept,
    distance,
    found_of,
    listed,
    outputs_of,
    precise,
    tracked_norms,
)
from search.train import steps
from search.train.estimator import Estimator

EXAMPLES = 32
ROUNDING = 1e-5
"""Difference of outputs over the largest; passes of one shape differ by nothing, but for atomic sums on a GPU."""


def look(bench: Bench) -> Found:
    """Look at the switches of a new network, at what it does in both modes, and at an epoch with its evaluation."""
    batch = bench.batch(2 * EXAMPLES)[0]
    model = bench.setup().model
    awaken(model, bench.seed % 2**32)
    with precise():
        parts = [_switches(model), *_gradients(model, batch)]
        passes, differences = _passes(model, batch)
        parts += [*passes, *_norms(model, batch), *variance_shift.look(model, batch)]
        if not any(part.verdict is FAIL for part in parts):  # else predictions would be wrong for a known reason
            parts += evaluation.look(bench)
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
    order = ("dropout", "batch norm", "variance shift", "predictions")
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
    tracked = {name: m for name, m in tracked_norms(model).items() if m.training}
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


CHECK = Check(row="R21", title="training and evaluation modes", look=look)
