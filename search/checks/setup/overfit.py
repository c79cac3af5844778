"""R16: the network learns a handful of examples by heart, and the trial's own optimiser can lower their loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search.checks.bench import Bench, train
from search.checks.check import Check, Found, skipped
from search.checks.evidence import Array, Curves, Evidence, Pictures
from search.keyed import keyed_int
from search.records import CheckVerdict, worst
from search.train import steps
from search.train.batches import Batch
from search.train.losses import HardLoss, Loss
from search.train.setup import Setup

LARGER = 16
"""Examples of the larger batch; of inputs with fewer features as many as features, which any linear model can fit."""
POOL = 256
RATES = (1e-2, 1e-3)
STEPS = 200
"""Of Adam at each rate. Bundled networks need 5 to 70."""
POLISH = 100
"""Steps of L-BFGS after it, for few features that nearly depend on each other (a linear model of a table)."""
LOSS = 0.05
"""Over the logarithm of the number of classes: 0.12 for 10 classes. Of squared error, 0.01 of the batch's variance."""
LEARNED, HALF_LEARNED = 0.25, 0.5
"""Times the loss of knowing nothing that is enough where all are right: bounded logits (spectral norm) reach 0.2."""
OWN_STEPS = 30
OWN_RATES = (None, 0.1, 1e-2, 1e-3)
"""Of the trial's own optimiser: first its own, then others, so that a bad learning rate is not said here (R36)."""
FALLEN = 0.1
SHOWN = 32


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """How a batch was learned: the loss by step, (M,), that to be reached, and the accuracy at the end."""

    size: int
    losses: Array
    goal: float
    accuracy: float
    reached: bool
    setup: Setup

    @property
    def verdict(self) -> CheckVerdict:
        """Whether it was learned; a network whose logits are bounded can be right, and never sure."""
        share = self.losses[-1] / self.goal * LOSS  # of knowing nothing, for `accuracy` is of classes alone
        if self.reached or (self.accuracy == 1 and share < LEARNED):
            return CheckVerdict.PASS
        return CheckVerdict.WARN if self.accuracy == 1 and share < HALF_LEARNED else CheckVerdict.FAIL

    @property
    def words(self) -> str:
        """What became of it."""
        loss, steps = f"{self.losses[-1]:.3g}", f"{len(self.losses)} steps of Adam"
        what = "squared error over the variance" if math.isnan(self.accuracy) else "loss"
        wanted = f"under {self.goal:.3g} is wanted"
        if self.verdict is CheckVerdict.PASS:
            usual = "" if self.reached else f"; {wanted}, but all are right"
            return f"{self.size} examples are learned by heart: {what} {loss} after {steps}{usual}"
        if self.verdict is CheckVerdict.WARN:
            return f"{self.size} examples are all predicted right, but {what} {loss} is left after {steps} ({wanted})"
        right = f", {self.accuracy:.0%} of them right," if self.accuracy < 1 else ""
        even = "even " if self.size == 2 else ""
        return f"{even}{self.size} examples are not learned by heart: {what} {loss}{right} after {steps} ({wanted})"


def look(bench: Bench) -> Found:
    """Overfit two examples, then a few more, with Adam; then let the trial's own optimiser and loss try."""
    pool = _distinct(bench)
    small, large = _sizes(bench, len(pool[1]))
    if large < 2:
        return skipped("there are no two training examples with different inputs and targets")
    attempts = [_overfitted(bench, _first(pool, small))]
    if attempts[0].verdict is not CheckVerdict.FAIL and large > small:
        attempts.append(_overfitted(bench, _first(pool, large)))
    own = _own(bench, _first(pool, large))
    verdict = worst(*(attempt.verdict for attempt in attempts))
    told = next((attempt for attempt in reversed(attempts) if attempt.verdict is verdict), attempts[-1])
    sentence = told.words
    if (frozen := _frozen(told.setup)) and verdict is CheckVerdict.FAIL and told is not attempts[0]:
        verdict, sentence = CheckVerdict.WARN, f"{sentence}; {frozen}"
    advice = "the network is too small, or something in it is in the way: a missing non-linearity, outputs squashed"
    if verdict is not CheckVerdict.FAIL and own.problem:
        verdict, sentence, advice = CheckVerdict.FAIL, own.problem, own.advice
    return Found(
        verdict=verdict,
        sentence=sentence,
        advice="" if verdict is CheckVerdict.PASS else advice,
        expected={"loss": told.goal},
        measured={"loss": float(told.losses[-1]), "examples": told.size, "steps": len(told.losses)}
        | ({"accuracy": told.accuracy} if bench.classifies else {})
        | {"own_loss_first": float(own.losses[0]), "own_loss_least": float(np.min(own.losses))},
        evidence=_evidence(bench, attempts, own.losses),
    )


def _frozen(setup: Setup) -> str:
    """Return how much of what was loaded is frozen, in words: the rest may be too little for more than two examples."""
    parameters = list(setup.model.parameters())
    frozen = 0 if setup.started is None else sum(not p.requires_grad for p in parameters)
    return f"{frozen} of {len(parameters)} parameters are frozen" if frozen else ""


def _distinct(bench: Bench) -> Batch:
    """Return training examples without repeated inputs: two labels for one input cannot be learned."""
    inputs, targets, indices = bench.batch(POOL, key="overfit")
    _, where = np.unique(inputs.reshape(len(inputs), -1).cpu().numpy(), axis=0, return_index=True)
    order = torch.as_tensor(np.sort(where))
    if not bench.classifies:  # two equal targets have no variance to be explained
        _, where = np.unique(targets[order.to(targets.device)].cpu().numpy(), return_index=True)
        order = order[torch.as_tensor(np.sort(where))]
    there = order.to(inputs.device)
    return inputs[there], targets[there], indices[order]


def _sizes(bench: Bench, most: int) -> tuple[int, int]:
    features = math.prod(bench.examples.inputs.shape[1:])
    return min(2, most), min(most, max(2, min(LARGER, features)))


def _first(batch: Batch, size: int) -> Batch:
    return batch[0][:size], batch[1][:size], batch[2][:size]


def _overfitted(bench: Bench, batch: Batch) -> _Attempt:
    """Return the first attempt that learns the batch, or the best.

    Evaluation mode goes first: it switches off what a network's author draws in its own ways, and batch norm, which
    lets some of a few examples die in a small ConvNet (7 of 10 of the bundled one).
    """
    attempts: list[_Attempt] = []
    for rate, training in itertools.product(RATES, (False, True)):
        attempts.append(_attempted(bench, batch, rate, training=training))
        if attempts[-1].verdict is CheckVerdict.PASS:
            break
    return min(attempts, key=lambda attempt: (list(CheckVerdict).index(attempt.verdict), _or_infinite(attempt.losses)))


def _or_infinite(losses: Array) -> float:
    return float(losses[-1]) if math.isfinite(losses[-1]) else math.inf


def _attempted(bench: Bench, batch: Batch, rate: float, *, training: bool) -> _Attempt:
    setup = bench.bare_setup(key="overfit")
    inputs, targets, indices = batch
    loss, goal = _task_loss(bench, targets)
    parameters = [p for p in setup.model.parameters() if p.requires_grad]
    setup.model.train(training)
    losses: list[float] = []

    def closure() -> float:
        for parameter in parameters:
            parameter.grad = None
        value: Any = loss(setup.model(inputs), targets, indices)
        value.backward()
        losses.append(float(value.detach()))
        return losses[-1]

    def accuracy() -> float:
        with torch.no_grad():
            return float((setup.model(inputs).argmax(dim=1) == targets).float().mean())

    def reached() -> bool:
        return losses[-1] <= goal and (not bench.classifies or accuracy() == 1)

    steps.seed_everything(keyed_int(setup.seed, "overfit"))
    adam = torch.optim.Adam(parameters, lr=rate)
    newton = torch.optim.LBFGS(parameters, max_iter=10, line_search_fn="strong_wolfe")
    with _differentiable(training):
        for optimizer in (*itertools.repeat(adam, STEPS), *_polish(bench, newton)):
            optimizer.step(closure)
            if not math.isfinite(losses[-1]) or reached():
                break
    done = math.isfinite(losses[-1]) and reached()
    score = accuracy() if bench.classifies else float("nan")
    return _Attempt(size=len(targets), losses=np.array(losses), goal=goal, accuracy=score, reached=done, setup=setup)


def _task_loss(bench: Bench, targets: Tensor) -> tuple[Loss, float]:
    """Return the task's own loss, whatever the trial's, and where it counts as nothing."""
    if bench.classifies:
        return HardLoss(task="classification", target_std=1.0), LOSS * math.log(bench.examples.num_outputs)
    return HardLoss(task="regression", target_std=float(targets.double().std(correction=0))), 0.01


def _polish(bench: Bench, optimizer: torch.optim.LBFGS) -> Iterator[torch.optim.Optimizer]:
    if math.prod(bench.examples.inputs.shape[1:]) < 2 * LARGER:
        yield from itertools.repeat(optimizer, POLISH // 10)


@contextmanager
def _differentiable(training: bool) -> Iterator[None]:
    """Let recurrent networks be trained in evaluation mode, which cuDNN's cannot."""
    with torch.backends.cudnn.flags(enabled=training and torch.backends.cudnn.enabled):
        yield


@dataclass(frozen=True, kw_only=True)
class _Own:
    losses: Array
    problem: str = ""
    advice: str = ""


def _own(bench: Bench, batch: Batch) -> _Own:
    """Return whether the trial's own optimiser lowers the trial's own loss of a batch, at any learning rate."""
    first: Array | None = None
    for rate in OWN_RATES:
        setup = bench.bare_setup(key="overfit")
        for group in setup.optimizer.param_groups:
            if "lr" in group and rate is not None:
                group["lr"] = rate
        losses = train(setup, itertools.repeat(batch, OWN_STEPS))
        first = losses if first is None else first
        if np.nanmin(losses) < losses[0] - FALLEN * abs(losses[0]):
            stale = _stale(bench, batch)
            advice = "clear the gradients before each step: optimizer.zero_grad()" if stale else ""
            return _Own(losses=first, problem=stale, advice=advice)
    assert first is not None
    return _Own(
        losses=first,
        problem=f"the setup's own optimiser does not lower its own loss of {len(batch[1])} examples: from "
        f"{first[0]:.4g} to {np.nanmin(first):.4g} in {OWN_STEPS} steps, nor at learning rates 0.1, 0.01 and 0.001",
        advice="give the optimiser the network's parameters, and see whether the loss has a gradient where it is large",
    )


def _stale(bench: Bench, batch: Batch) -> str:
    """Return words where a second step's gradients are those of both steps: nothing cleared the first's."""
    inputs, targets, indices = batch
    halves = [(inputs[i::2], targets[i::2], indices[i::2]) for i in range(2)]
    if len(halves[1][1]) < 2:
        halves = [batch, batch]
    setup, twin = (bench.bare_setup(key="overfit") for _ in range(2))
    gradients = []
    for half in halves:
        twin.model.load_state_dict(setup.model.state_dict())
        for parameter in twin.model.parameters():  # not by the optimiser: it may be what clears nothing
            parameter.grad = None
        steps.seed_everything(keyed_int(setup.seed, "stale"))
        twin.model.train()
        twin.loss(twin.model(half[0]), half[1], half[2]).backward()  # type: ignore[no-untyped-call]
        gradients.append((_gradient(setup), _gradient(twin)))
        train(setup, iter([half]))
    got, (left, fresh) = _gradient(setup), gradients[1]
    if not (got.numel() == left.numel() == fresh.numel() > 0) or not bool(left.any()):
        return ""
    if float((got - fresh - left).norm()) < 1e-2 * float(left.norm()) < float((got - fresh).norm()):
        return "the gradients of a step still hold those of the step before"
    return ""


def _gradient(setup: Setup) -> Tensor:
    found = [p.grad.detach().flatten().clone() for p in setup.model.parameters() if p.grad is not None]
    return torch.cat(found) if found else torch.zeros(0)


def _evidence(bench: Bench, attempts: list[_Attempt], own: Array) -> tuple[Evidence, ...]:
    lines = {f"Adam, {attempt.size} examples": _line(attempt.losses) for attempt in attempts}
    curves = Curves(
        name="overfit",
        title="a few examples learned by heart",
        x="step",
        y="loss over the batch",
        lines=lines | {f"own optimiser and loss, {attempts[-1].size} examples": _line(own)},
        levels={"goal": attempts[-1].goal},
        log_y=bool(min(own.min(), *(attempt.losses.min() for attempt in attempts)) > 0),
    )
    weights = _first_weights(bench, attempts[-1].setup)
    return (curves,) if weights is None else (curves, weights)


def _line(losses: Array) -> Array:
    return np.stack([np.arange(1, len(losses) + 1), losses])


def _first_weights(bench: Bench, setup: Setup) -> Pictures | None:
    """Return the weights that look at the inputs, as pictures of the inputs' shape or of a kernel's."""
    if bench.examples.kind != "picture":
        return None
    shape = bench.examples.inputs.shape[1:]
    for weight in setup.model.network.parameters():
        seen = {4: shape[0], 2: math.prod(shape)}.get(weight.ndim)  # by a kernel; by a unit of a linear layer
        if seen is not None and seen == weight.shape[1]:
            kernels = weight.detach()[:SHOWN].float().cpu().numpy()
            pictures = kernels if weight.ndim == 4 else kernels.reshape(-1, *shape)
            return Pictures(name="weights", title="weights of the first layer after overfitting", inputs=pictures)
        if weight.ndim >= 2:
            return None
    return None


CHECK = Check(row="R16", title="overfits a small batch", look=look)
