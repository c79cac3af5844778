"""Short training runs of a setup, and what they show: R13, R14 and R17 look at the same one."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search.checks.baselines.pace import left_out, mini_batches
from search.checks.baselines.sampled import sample, spread, too_few
from search.checks.bench import Bench, minibatches, train
from search.train.batches import Batch, Batches
from search.train.data.arrays import Array, Dataset
from search.train.kept import kept
from search.train.loop import predict
from search.train.setup import Setup
from search.train.steps import seed_everything

TRAIN_EXAMPLES = 512
VALIDATION_EXAMPLES = 2000
CHUNKS = 16
LONGER = 10
"""A run that shows nothing after its steps may go on for so many times as many."""
RATES = (1e-2, 1e-4, 1e2, 1e4)
"""Times the composed learning rate, to tell one that is far off from a fault of something else."""
CLEAR = 3.0
"""Standard errors that predictions of one set of examples reach by chance once in 700."""
UNCLEAR = 2.0
"""Once in 40."""
MOVES = 0.02
"""Least fall of the training loss, of itself; healthy sets: 0.056 and up (a CNN with Adam at 3e-4)."""
SAME = 1e-6
"""Of the largest prediction: what rounding may do to predictions that are the same."""
STUCK = 0.98
"""Part of a constant prediction's loss under which a training has learned something."""
InputsOf = Callable[[Tensor], Tensor]
"""Replaces a batch of inputs by others of the same shape."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A setup after so many mini-batches.

    `losses` (M,) are those of the mini-batches, up to one that is not finite. `before` and `after` (K,) are the losses
    of the same chunks of training examples, with the same dropout, at the first and the last weights; `predictions`
    are those on `validation`, the indices of a sample of that split. `constant` is the loss of the best constant
    prediction on the chunks; `seconds` are what the mini-batches took. `seen` are the indices of the
    training examples in them.
    """

    setup: Setup
    losses: Array
    before: Array
    after: Array
    constant: float
    seconds: float
    seen: Array
    validation: Array
    predictions: Array

    @property
    def too_few(self) -> bool:
        """Tell whether the run saw, or was looked at with, too few examples of rare classes to say anything by."""
        return any(too_few(self.setup.dataset.examples, indices) for indices in (self.seen, self.validation))

    @property
    def same(self) -> bool:
        """Tell whether the predictions are the same for all inputs, but for rounding."""
        spread = np.ptp(self.predictions, axis=0).max(initial=0.0)
        return self.finite and bool(spread <= SAME * np.abs(self.predictions).max(initial=0.0))

    @property
    def finite(self) -> bool:
        """Tell whether all losses and predictions are."""
        return all(bool(np.isfinite(a).all()) for a in (self.losses, self.after, self.predictions))

    @property
    def seconds_per_epoch(self) -> float:
        """Return what an epoch over the training split takes at that pace."""
        batches = math.ceil(len(self.setup.dataset.split.train) / self.setup.plan.batch_size)
        return self.seconds / max(1, len(self.losses)) * batches

    @property
    def fall(self) -> float:
        """Return by how much the training loss fell; minus infinity where it is not finite."""
        return float(np.mean(self.before - self.after)) if self.finite else -math.inf

    @property
    def certainty(self) -> float:
        """Return the fall in standard errors over the chunks."""
        return standard_errors(self.before - self.after) if self.finite else -math.inf

    @property
    def moves(self) -> bool:
        """Tell whether the training loss fell by more than nothing."""
        return self.fall >= MOVES * abs(float(self.before.mean())) and self.certainty >= UNCLEAR

    @property
    def stuck(self) -> bool:
        """Tell whether the training loss is still that of a constant prediction, or worse."""
        return not self.finite or self.after.mean() - self.constant >= (STUCK - 1) * abs(self.constant)

    @property
    def fit(self) -> float:
        """Return how far predictions fit their own targets better than those of others, in standard errors."""
        task = self.setup.dataset.examples.task
        return association(self.predictions, self.targets, task) if self.finite else -math.inf

    @property
    def targets(self) -> Array:
        """Return the targets that belong to `predictions`."""
        return self.setup.dataset.examples.targets[self.validation]


def short_run(bench: Bench) -> Run:
    """Return the composed setup after a short run; made once for all checks."""
    return bench.once("short run", lambda: trained(bench))


def longer_run(bench: Bench) -> Run:
    """Return the short run after ten times as many mini-batches, or itself where a step takes long; made once."""
    return bench.once("longer run", lambda: short_run(bench) if left_out(bench) else trained(bench, times=LONGER))


def better_rate(bench: Bench) -> tuple[float, Run] | None:
    """Return by how much to multiply the learning rate for a run that learns, and that run; None where none does.

    Made once for all checks, and only where the composed rate does not learn.
    """
    good = [(factor, run) for factor, run in other_rates(bench) if run.moves and not run.stuck and run.fit >= CLEAR]
    return min(good, key=lambda found: float(found[1].after.mean()), default=None)


def other_rates(bench: Bench) -> list[tuple[float, Run]]:
    """Return short runs at other learning rates and by how much these differ; none where a step takes long."""
    return bench.once("other rates", lambda: _other_rates(bench))


def _other_rates(bench: Bench) -> list[tuple[float, Run]]:
    return [] if left_out(bench) else [(factor, trained(bench, rate=factor)) for factor in RATES]


def looked_at(bench: Bench) -> Array:
    """Return the validation examples that runs and baselines are compared on, the rare ones among them."""
    return sample(bench, "validation", VALIDATION_EXAMPLES)


def trained(
    bench: Bench,
    *,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    key: str = "short run",
    rate: float = 1.0,
    times: float = 1.0,
    inputs_of: InputsOf | None = None,
) -> Run:
    """Return a new setup after a short run, with `rate` times the learning rate and `times` as many mini-batches.

    With `inputs_of` it is given those inputs instead, always. Runs of one key have the same initial weights and see the
    same batches.
    """
    setup = bench.setup(changes, key=key)
    if inputs_of is not None:
        setup = dataclasses.replace(setup, batches=_Altered(setup.batches, inputs_of))
    for group in setup.optimizer.param_groups:
        if "lr" in group:
            group["lr"] = group["lr"] * rate
    before, constant = _chunk_losses(bench, setup)
    seen: list[Tensor] = []
    number = max(1, round(mini_batches(bench) * times))
    began = time.perf_counter()
    losses = train(setup, _noted(minibatches(setup, number), seen))
    seconds = time.perf_counter() - began
    validation = looked_at(bench)
    return Run(
        setup=setup,
        losses=losses,
        before=before,
        after=_chunk_losses(bench, setup)[0],
        constant=constant,
        seconds=seconds,
        seen=np.unique(torch.cat(seen).numpy()),
        validation=validation,
        predictions=predict(setup.model, setup.batches, validation, setup.dataset.examples.task),
    )


def _noted(batches: Iterator[Batch], seen: list[Tensor]) -> Iterator[Batch]:
    """Yield the batches and keep the indices of their examples."""
    for batch in batches:
        seen.append(batch[2])
        yield batch


class _Altered:
    """Batches with other inputs."""

    def __init__(self, batches: Batches, inputs_of: InputsOf) -> None:
        self._batches, self._inputs_of = batches, inputs_of

    def __call__(self, order: Tensor, batch_size: int) -> Iterator[Batch]:
        for inputs, targets, indices in self._batches(order, batch_size):
            yield self._inputs_of(inputs), targets, indices


def _chunk_losses(bench: Bench, setup: Setup) -> tuple[Array, float]:
    """Return the losses of chunks of training examples (K,), with the same dropout each time, and a constant's."""
    chosen = bench.generator("chunks").permutation(sample(bench, "train", TRAIN_EXAMPLES, CHUNKS))
    size = max(2, math.ceil(len(chosen) / CHUNKS))
    chosen = chosen[:-1] if len(chosen) % size == 1 and len(chosen) > size else chosen
    chosen = spread(bench, chosen, CHUNKS)
    prior = torch.as_tensor(constant_output(setup.dataset))
    losses, constants = [], []
    with torch.no_grad(), kept(setup.model):  # batch norm changes its statistics by looking
        setup.model.train()
        seed_everything(setup.seed)
        for inputs, targets, indices in setup.batches(torch.as_tensor(chosen), size):
            losses.append(float(setup.loss(setup.model(inputs), targets, indices)))
            outputs = prior.to(targets.device).expand(len(targets), -1)
            constants.append(float(setup.loss(outputs, targets, indices)))
    return np.array(losses), float(np.mean(constants))


def constant_output(dataset: Dataset) -> Array:
    """Return the output of the best constant prediction, float32: the classes' log-shares (C,), or the mean (1,)."""
    targets = dataset.examples.targets[dataset.split.train]
    if dataset.examples.task == "regression":
        return np.array([targets.mean()], dtype=np.float32)
    counts = np.maximum(np.bincount(targets, minlength=dataset.examples.num_outputs), 1)
    return np.asarray(np.log(counts / counts.sum()), dtype=np.float32)


def standard_errors(values: Array) -> float:
    """Return the mean of values over its standard error: 0 where there are too few to tell."""
    if len(values) < 3:
        return 0.0
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return mean / error if error > 0 else math.copysign(math.inf, mean) if mean else 0.0


def association(predictions: Array, targets: Array, task: str) -> float:
    """Return how far the predictions fit their own targets better than those of other examples, in standard errors.

    The sum of the examples' losses is compared with its distribution over all permutations of the targets, whose mean
    and variance are known exactly (Hoeffding 1951); 0 for predictions that are all the same.
    """
    if len(targets) < 3:
        return 0.0
    if task == "regression":
        centred = [np.asarray(v, dtype=np.float64) - np.mean(v, dtype=np.float64) for v in (predictions, targets)]
        scale = math.sqrt(float(np.prod([np.sum(c**2) for c in centred])))
        covariance = float(np.sum(centred[0] * centred[1]))
        return covariance / scale * math.sqrt(len(targets) - 1) if scale > 0 else 0.0
    score = np.log(np.clip(predictions.astype(np.float64), 1e-3, None))  # a few sure mistakes must not decide
    counts = np.bincount(targets, minlength=score.shape[1])
    share = counts / counts.sum()
    column = score.mean(axis=0)
    doubly = score - (score @ share)[:, None] - column + column @ share
    spread = math.sqrt(float((doubly**2 @ counts).sum()) / (len(targets) - 1))
    total = float(doubly[np.arange(len(targets)), targets].sum())
    return total / spread if spread > 1e-9 else 0.0
