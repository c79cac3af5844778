"""R11: the loss before the first step is that of knowing nothing."""

from __future__ import annotations

import math

import numpy as np
import torch

from search.checks.bench import INITIALISATIONS, Bench, has_dropout
from search.checks.check import Check, Found, skipped
from search.checks.evidence import Array, Bars
from search.records import CheckVerdict
from search.train.batches import Batch
from search.train.setup import Setup

FAIL = (0.8, 1.5)
"""Times the expected loss, below and above."""
WARN = (0.95, 1.15)
"""Healthy nets: 0.98 to 1.09 with batch norm; up to 1.35 with a last layer initialised after He et al. 2015."""
ERRORS = {8: 2.5, 4: 3.5, 2: 16.0}
"""Standard errors of the mean over so many initialisations by which a limit has to be passed; Student's t of 98 %."""
SAME = 1e-6
"""Relative spread of losses that do not depend on the initialisation."""


def look(bench: Bench) -> Found:
    """Compare the loss of new networks, without and with dropout, with that of a constant prediction."""
    batch, outputs = bench.new_outputs()
    _, targets, indices = batch
    setup = bench.setup()
    low, high, why = expected_loss(setup, batch)
    losses = np.array([float(setup.loss(one, targets, indices)) for one in outputs])
    measured = float(losses.mean())
    if min(low, high) <= 0 and np.isfinite(losses).all():
        return skipped(f"the loss of a constant prediction is {min(low, high):.4g}: there is no scale to compare with")
    dropped = _with_dropout(bench, batch, len(losses))
    trained = _is_trained(losses, low, high)
    verdict = CheckVerdict.PASS if trained else _verdict(losses, low, high)
    grown = "" if dropped is None else f"; {dropped:.4f} with dropout"
    shown = {"measured": measured} | ({} if dropped is None else {"with dropout": dropped})
    number = f"{len(losses)} initialisations" + (
        "" if len(losses) == INITIALISATIONS else f" on {len(targets)} examples"
    )
    start = (
        f"the network starts from trained weights: its loss is {measured:.4f} whatever the initialisation"
        if trained
        else f"the loss of a new network is {measured:.4f}, mean of {number}"
    )
    bars = Bars(
        name="loss",
        title="loss before the first step",
        y="loss",
        labels=tuple(shown),
        bars={"loss": np.array(list(shown.values()))},
        levels={"expected": high},
    )
    return Found(
        verdict=verdict,
        sentence=f"{start}; {'knowing nothing costs' if trained else 'expected is'} {high:.4f}, {why}{grown}",
        advice="" if verdict is CheckVerdict.PASS else _advice(measured, low, high),
        expected={"loss": high},
        measured={"loss": measured} | ({} if dropped is None else {"loss_with_dropout": dropped}),
        evidence=(bars,),
    )


def expected_loss(setup: Setup, batch: Batch) -> tuple[float, float, str]:
    """Return the loss of the best constant prediction, of the plain one, and what the latter is in words."""
    _, targets, indices = batch
    examples = setup.dataset.examples
    train = examples.targets[setup.dataset.split.train]
    if examples.task == "classification":
        prior = np.bincount(train, minlength=examples.num_outputs) / len(train)
        constant = torch.zeros(len(targets), examples.num_outputs, device=targets.device)
        best = constant + torch.tensor(np.log(np.maximum(prior, 1e-6)), dtype=torch.float32, device=targets.device)
        why = f"-log(1/{examples.num_outputs})"
    else:
        best = constant = torch.full((len(targets), 1), float(train.mean()), device=targets.device)
        why = "the variance of the target over itself"
    low, high = (float(setup.loss(outputs, targets, indices)) for outputs in (best, constant))
    if setup.standard_loss:
        return low, (math.log(examples.num_outputs) if examples.task == "classification" else high), why
    return low, high, "that of a constant prediction"


def _with_dropout(bench: Bench, batch: Batch, number: int) -> float | None:
    """Return the mean loss of the same networks with their dropout; None where there is none."""
    inputs, targets, indices = batch
    losses = []
    for i in range(number):
        setup = bench.setup(key=f"initialisation {i}")
        if not has_dropout(setup.model):
            return None
        setup.model.train()
        losses.append(float(setup.loss(bench.outputs_of(setup.model, inputs), targets, indices)))
    return float(np.mean(losses))


def _is_trained(losses: Array, low: float, high: float) -> bool:
    """Tell whether all new networks are one that knows something: it has loaded weights."""
    below = np.isfinite(losses).all() and losses.max() < WARN[0] * min(low, high)
    return bool(below and losses.min() > 0 and np.ptp(losses) <= SAME * losses.max())


def _verdict(losses: Array, low: float, high: float) -> CheckVerdict:
    """Return on which side of the limits the losses lie, on a logarithmic scale: they differ by factors."""
    if not (np.isfinite(losses).all() and (losses > 0).all()):
        return CheckVerdict.FAIL
    logs = np.log(losses)
    mean, slack = logs.mean(), ERRORS[len(logs)] * logs.std(ddof=1) / math.sqrt(len(logs))
    for (least, most), verdict in ((FAIL, CheckVerdict.FAIL), (WARN, CheckVerdict.WARN)):
        if mean + slack < math.log(least * min(low, high)) or mean - slack > math.log(most * high):
            return verdict
    return CheckVerdict.PASS


def _advice(measured: float, low: float, high: float) -> str:
    if measured < min(low, high):
        return "a loss under that of knowing nothing: look for targets among the inputs, or a loss that fits no logits"
    return "initialise the last layer with small weights, and its bias with 0: the class prior or the mean is added"


CHECK = Check(row="R11", title="loss at initialisation", look=look)
