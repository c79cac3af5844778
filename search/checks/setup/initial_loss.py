"""R11: the loss before the first step is that of knowing nothing."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from search.checks.bench import Bench
from search.checks.check import Check, Found
from search.checks.evidence import Bars
from search.records import CheckVerdict
from search.train.batches import Batch
from search.train.setup import Setup

EXAMPLES = 512
FAIL = (0.8, 1.5)
"""Times the expected loss, below and above."""
WARN = (0.95, 1.15)
"""Healthy nets: 0.98 to 1.09 with batch norm; up to 1.35 with a last layer initialised after He et al. 2015."""


def look(bench: Bench) -> Found:
    """Compare the loss of a new network, without and with regularisation, with that of a constant prediction."""
    batch = bench.batch(EXAMPLES)
    bare, whole = bench.bare_setup(), bench.setup()
    low, high, why = _expected(bare, batch)
    measured, regularised = _loss(bare, batch), _loss(whole, batch)
    verdict = _verdict(measured, low, high)
    bars = Bars(
        name="loss",
        title="loss before the first step",
        y="loss",
        labels=("measured", "with dropout"),
        bars={"loss": np.array([measured, regularised])},
        levels={"expected": high},
    )
    return Found(
        verdict=verdict,
        sentence=f"the loss of a new network is {measured:.4f}; expected is {high:.4f}, {why}",
        advice="" if verdict is CheckVerdict.PASS else _advice(measured, low, high),
        expected={"loss": high},
        measured={"loss": measured, "loss_with_dropout": regularised},
        evidence=(bars,),
    )


def _expected(setup: Setup, batch: Batch) -> tuple[float, float, str]:
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


def _loss(setup: Setup, batch: Batch) -> float:
    inputs, targets, indices = batch
    setup.model.train()
    with torch.no_grad():
        outputs: Tensor = setup.model(inputs)
        return float(setup.loss(outputs, targets, indices))


def _verdict(measured: float, low: float, high: float) -> CheckVerdict:
    if not FAIL[0] * min(low, high) <= measured <= FAIL[1] * high:  # NaN is in no interval
        return CheckVerdict.FAIL
    if not WARN[0] * min(low, high) <= measured <= WARN[1] * high:
        return CheckVerdict.WARN
    return CheckVerdict.PASS


def _advice(measured: float, low: float, high: float) -> str:
    if measured < min(low, high):
        return "a loss under that of knowing nothing: look for targets among the inputs, or a loss that fits no logits"
    return "initialise the last layer with small weights, and its bias with the class prior or the target's mean"


CHECK = Check(row="R11", title="loss at initialisation", look=look)
