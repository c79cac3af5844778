"""R10: the same run twice gives the same numbers; another seed gives another order."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from search.checks.bench import Bench
from search.checks.check import Check, Found, skipped
from search.checks.evidence import Array, Curves
from search.keyed import keyed_int
from search.records import CheckVerdict, Verdict
from search.train import steps
from search.train.data.arrays import Dataset, Split
from search.train.plan import Plan
from search.train.setup import Setup
from search.train.steps import NonFiniteError

EPOCHS = 2
BATCHES = 10
"""Of an epoch; larger training splits are cut to so many."""
VALIDATION = 256
TOLERANCE = 1e-2
"""On CUDA, of the largest number compared: sums of atomic additions differ in their last digits from run to run, and
training makes that more. On a CPU nothing may differ."""
ENOUGH = 16
"""Examples from which two orders are the same by chance less than once in 1e13."""


@dataclass
class _Run:
    """What one training gave."""

    initial: list[Tensor]
    weights: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    predictions: Array = field(default_factory=lambda: np.zeros(0))


def look(bench: Bench) -> Found:
    """Ask for the order of an epoch twice and with another seed, and train twice with one seed."""
    order = _order(bench)
    if order is not None and order.verdict is CheckVerdict.FAIL:
        return order
    one, other = _run(bench), _run(bench)
    if one is None or other is None:
        return skipped("training does not stay finite, so there is nothing to compare")
    tolerance = 0.0 if bench.device.type == "cpu" else TOLERANCE
    differences = _differences(one, other)
    curves = Curves(
        name="losses",
        title="the same training twice",
        x="step",
        y="training loss",
        lines={name: _line(run.losses) for name, run in (("first", one), ("second", other))},
    )
    differing = [what for what, difference in differences.items() if not difference <= tolerance]
    how = "bitwise" if tolerance == 0 else f"within {tolerance:g}"
    number = len(one.losses)
    measured = {f"difference_{what.replace(' ', '_')}": value for what, value in differences.items()}
    expected = dict.fromkeys(measured, 0.0)
    if differing:
        return Found(
            verdict=CheckVerdict.FAIL,
            sentence=f"the same training of {number} steps twice with one seed differs in its {' and '.join(differing)}"
            f", first by {differences[differing[0]]:.3g} of the largest value",
            advice="draw random numbers from torch's, numpy's or Python's global generators, which are seeded each "
            "epoch; keep no state outside the network",
            expected=expected,
            measured=measured,
            evidence=(curves,),
        )
    if order is not None:
        return dataclasses.replace(order, expected=expected, measured=measured, evidence=(curves,))
    return Found(
        verdict=CheckVerdict.PASS,
        sentence=f"{number} steps of training twice with one seed give {how} equal losses, weights and predictions; "
        "another seed gives another order",
        expected=expected,
        measured=measured,
        evidence=(curves,),
    )


def _order(bench: Bench) -> Found | None:
    """Return what is wrong with the order of the examples, if anything is."""
    train, plan = bench.split.train, Plan.of(bench.config["trainer"])
    seeds = [keyed_int(bench.seed, "order", i) for i in range(2)]
    first, again = (np.asarray(steps.order_of(bench.dataset, plan, seeds[0], 1)) for _ in range(2))
    if not np.array_equal(first, again):
        return Found(
            verdict=CheckVerdict.FAIL,
            sentence="the order of the examples differs when it is asked for twice with one seed and one epoch",
            advice="draw the order from a generator that is seeded with the trial's seed and the epoch",
        )
    if len(train) < ENOUGH:
        return None
    same = [
        words
        for words, seed, epoch in (("two seeds", seeds[1], 1), ("two epochs", seeds[0], 2))
        if np.array_equal(first, np.asarray(steps.order_of(bench.dataset, plan, seed, epoch)))
    ]
    if not same:
        return None
    return Found(
        verdict=CheckVerdict.WARN,
        sentence=f"the order of the examples is the same for {' and '.join(same)}",
        advice="shuffle the training examples anew in each epoch, by the seed",
    )


def _run(bench: Bench) -> _Run | None:
    """Train for some epochs on a part of the data as a trial does; None where that does not stay finite."""
    setup = bench.setup({"trainer": {"epochs": EPOCHS, "patience": None}}, key="determinism")
    part = Split(
        train=bench.sample("train", BATCHES * setup.plan.batch_size),
        validation=bench.sample("validation", VALIDATION),
        test=bench.split.test[:0],
    )
    run = _Run(_state(setup))

    def loss(outputs: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        value = setup.loss(outputs, targets, indices)
        run.losses.append(value.detach().clone())
        return value

    short = dataclasses.replace(setup, dataset=Dataset(examples=bench.examples, split=part), loss=loss)
    try:
        fitted = short.training().fit(lambda *_: (Verdict.GO_ON, ""))
    except NonFiniteError:
        return None
    run.predictions, run.weights = fitted.predictions, _state(short)
    return run


def _state(setup: Setup) -> list[Tensor]:
    return [v.detach().clone() for v in setup.model.state_dict().values() if isinstance(v, Tensor)]


def _differences(one: _Run, other: _Run) -> dict[str, float]:
    """Return the largest difference of each kind of number, over the largest number."""
    return {
        "initial weights": _apart(one.initial, other.initial),
        "losses": _apart([torch.stack(one.losses)], [torch.stack(other.losses)]),
        "weights": _apart(one.weights, other.weights),
        "predictions": _apart([torch.from_numpy(one.predictions)], [torch.from_numpy(other.predictions)]),
    }


def _apart(some: list[Tensor], others: list[Tensor]) -> float:
    """Return the largest difference of two lists of tensors over their largest number; infinite for other shapes."""
    if [t.shape for t in some] != [t.shape for t in others]:
        return float("inf")
    most = 0.0
    for a, b in zip(some, others, strict=True):
        if a.numel() and not torch.equal(a, b):
            wide = torch.promote_types(a.dtype, torch.float64) if not a.is_complex() else a.dtype
            difference = torch.nan_to_num((a.to(wide) - b.to(wide)).abs(), nan=float("inf")).max()
            most = max(most, float(difference / torch.maximum(a.to(wide).abs().max(), b.to(wide).abs().max())))
    return most


def _line(losses: list[Tensor]) -> Array:
    values = np.array([float(loss) for loss in losses])
    return np.stack([np.arange(1, len(values) + 1), values])


CHECK = Check(row="R10", title="trains, and repeats itself exactly", look=look)
