"""R05: examples come to training in an order that says nothing, each with its own target."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from search.checks.bench import Bench
from search.checks.check import Check, Found
from search.checks.data.remarks import Remark, failed, found_of, warned
from search.checks.data.vectors import vectors
from search.checks.evidence import Array, Curves
from search.keyed import keyed_int
from search.train import steps
from search.train.data.arrays import Examples
from search.train.plan import Plan, examples_an_epoch

EPOCHS = 3
DELIVERED = 2048
"""Examples whose delivery is compared with the data, number by number."""
PERMUTATIONS, FEWEST_PERMUTATIONS = 100, 20
PERMUTED = 2_000_000
"""Examples that are shuffled in all, and with the fewest permutations a twentieth of them in each."""
FAR = 8.0
"""Standard deviations from what chance gives; no healthy order comes near it."""
ONE_CLASS = 0.25
"""Of the way from mixed batches to batches of a single class (or a single value) this much is a failure."""
NEIGHBOURS, WIDE = 1000, 2048
STEPS_APART = (-2, -1, 1, 2)
OTHER_CLASSES = 0.5
"""Share of the validation examples that would have to change class to be like training."""


@dataclass(frozen=True, kw_only=True)
class _Mixing:
    """How alike the targets within a batch are: 0 as chance has it, 1 as alike as can be."""

    excess: float
    deviations: float
    per_batch: Array


def look(bench: Bench) -> Found:
    """Look at the order of the data, of the split, and of the batches of a trial's first epochs."""
    seed = keyed_int(bench.seed, "order")
    size = int(bench.config["trainer"]["batch_size"])
    plan = Plan.of(bench.config["trainer"])
    if not bench.classifies:  # which R11 and the trial refuse to balance
        plan = dataclasses.replace(plan, sampling="shuffled")
    orders = [steps.order_of(bench.dataset, plan, seed, epoch) for epoch in range(1, EPOCHS + 1)]
    again = steps.order_of(bench.dataset, plan, seed, 1)
    remarks = _of_orders(orders, again, bench.split.train, plan)
    remarks += _of_delivery(bench, orders[0], size)
    first = orders[0].numpy()
    inside = first[np.isin(first, bench.split.train)]
    mixing = _mixing(bench.examples, inside, size, bench.generator("order"))
    remarks += _of_mixing(mixing)
    sortedness = _sortedness(bench)
    remarks += _of_split(bench, sortedness) + _of_steps(bench)
    words = "the data is sorted by target, but training shuffles it: " if sortedness > 0.5 else ""
    line = np.stack([np.arange(1, len(mixing.per_batch) + 1, dtype=np.float64), mixing.per_batch])
    return found_of(
        remarks,
        f"{words}batches are well mixed (z = {mixing.deviations:.1f}), each epoch in another order, and every example "
        f"comes with its own target",
        expected={"deviations": 0.0},
        measured={"deviations": mixing.deviations, "excess": mixing.excess, "data_sortedness": sortedness},
        evidence=(
            Curves(
                name="batches",
                title="how alike the targets within a batch are (0: as chance has it, 1: all the same)",
                x="batch",
                y="likeness",
                lines={"first epoch": line},
                levels={"chance": 0.0},
            ),
        ),
    )


def _of_orders(orders: list[Tensor], again: Tensor, train: Array, plan: Plan) -> list[Remark]:
    """Return remarks on orders that are no shuffling of the training examples."""
    remarks = []
    order = orders[0].numpy()
    foreign = int((~np.isin(order, train)).sum())
    repeated = len(order) - len(np.unique(order))
    left_out = len(train) - len(np.intersect1d(order, train))
    if foreign:
        remarks.append(failed(f"{foreign} examples of an epoch are not of the training split", "look at the order"))
    # a single example that would be a step of its own may go; balanced sampling draws with replacement
    may_go = len(train) - examples_an_epoch(len(train), plan.step_size)
    if plan.sampling == "shuffled" and (repeated or left_out > may_go):
        words = f"an epoch leaves {left_out} of {len(train)} training examples out and repeats {repeated}"
        remarks.append(failed(words, "an epoch has each training example once"))
    if not torch.equal(orders[0], again):
        words = "the order of an epoch is another one when it is asked for again with the same seed"
        remarks.append(failed(words, "draw the order from a generator of its own, seeded by the run's seed"))
    elif len(train) > 2 and all(torch.equal(orders[0], order) for order in orders[1:]):
        words = f"the first {EPOCHS} epochs have the same order"
        remarks.append(warned(words, "shuffle anew in each epoch: else the same examples stand in a batch together"))
    return remarks


def _of_delivery(bench: Bench, order: Tensor, size: int) -> list[Remark]:
    """Return a remark where batches do not hold the inputs and targets of the examples that were asked for."""
    asked = order[:DELIVERED]
    wrong_inputs = wrong_targets = delivered = 0
    for inputs, targets, indices in bench.batches(asked, size):
        wanted = asked[delivered : delivered + len(indices)].numpy()
        delivered += len(indices)
        if len(inputs) != len(wanted) or len(targets) != len(wanted) or not np.array_equal(indices.numpy(), wanted):
            return [failed("batches do not hold the examples of the order", "look at how batches are put together")]
        differs = inputs.cpu().numpy() != bench.examples.inputs[wanted]
        if bench.examples.inputs.dtype.kind == "f":  # a missing value is like itself
            differs &= ~np.isnan(bench.examples.inputs[wanted])
        wrong_inputs += int(differs.reshape(len(wanted), -1).any(axis=1).sum())
        wrong_targets += int((targets.cpu().numpy() != bench.examples.targets[wanted]).sum())
    if delivered == len(asked) and not wrong_inputs and not wrong_targets:
        return []
    words = (
        f"of {len(asked)} examples, batches hold {delivered}, {wrong_inputs} with other inputs and {wrong_targets} "
        "with other targets than the data has"
    )
    return [failed(words, "shuffle inputs and targets by the same indices")]


def _mixing(examples: Examples, order: Array, size: int, generator: np.random.Generator) -> _Mixing:
    """Compare how alike the targets within a batch are with what random orders give."""
    if len(order) <= size or size < 2:  # one batch, or none of two examples
        return _Mixing(excess=0.0, deviations=0.0, per_batch=np.zeros(1))
    order = order[: PERMUTED // FEWEST_PERMUTATIONS]
    targets, number = _indicators(examples, order), min(PERMUTATIONS, PERMUTED // len(order))
    likeness, weights = _likeness(targets, size)
    overall, total = float(np.average(likeness, weights=weights)), _spread(targets)
    shuffled = (_likeness(targets[generator.permutation(len(targets))], size)[0] for _ in range(number))
    chance = [np.average(values, weights=weights) for values in shuffled]
    mean, std = float(np.mean(chance)), float(np.std(chance))
    if total <= 0 or std < 1e-9 * total:  # of one class every order is alike
        return _Mixing(excess=0.0, deviations=0.0, per_batch=np.zeros(len(likeness)))
    room = total - mean
    return _Mixing(
        excess=(overall - mean) / room if room > 0 else 0.0,
        deviations=(overall - mean) / std,
        per_batch=(likeness - mean) / room if room > 0 else np.zeros(len(likeness)),
    )


def _indicators(examples: Examples, order: Array) -> Array:
    """Return the targets as points (N, K) in which likeness is a small squared distance."""
    targets = examples.targets[order]
    if examples.task == "regression":  # ranks: one number far away would decide everything
        return np.asarray(rankdata(targets) / len(targets))[:, None]
    present, classes = np.unique(targets, return_inverse=True)
    if len(present) > 64:  # a random plane of them keeps distances (Johnson and Lindenstrauss 1984)
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (len(present), 64)) / 8
        return np.asarray(signs[classes])
    return np.eye(len(present))[classes]


def _likeness(points: Array, size: int) -> tuple[Array, Array]:
    """Return for each batch the spread of all points less that within the batch, and how many points that rests on.

    Of classes the spread is Gini's impurity, one less the sum of their squared shares. A lone last example is left out.
    """
    starts = np.arange(0, len(points), size)
    counts = np.diff(np.append(starts, len(points)))
    sums = np.add.reduceat(points, starts, axis=0)
    squares = np.add.reduceat((points**2).sum(axis=1), starts)
    within = squares / counts - ((sums / counts[:, None]) ** 2).sum(axis=1)
    # of so few examples the spread is too small by that factor
    within *= counts / np.maximum(counts - 1, 1)
    some = counts > 1
    return np.asarray(_spread(points) - within[some]), counts[some]


def _spread(points: Array) -> float:
    return float(points.var(axis=0).sum())


def _of_mixing(mixing: _Mixing) -> list[Remark]:
    if mixing.deviations < FAR:
        return []
    words = (
        f"targets within a batch are more alike than chance makes them: {mixing.excess:.1%} of the way to batches of "
        f"a single class, {mixing.deviations:.3g} standard deviations off"
    )
    advice = "shuffle the training examples in each epoch"
    return [(failed if mixing.excess >= ONE_CLASS else warned)(words, advice)]


def _sortedness(bench: Bench) -> float:
    """Return 0 where the file's order says nothing of the targets, 1 where they are sorted; test is left out."""
    known = np.sort(np.concatenate([bench.split.train, bench.split.validation]))
    points = _indicators(bench.examples, known)
    spread = _spread(points)
    if spread <= 0 or len(points) < 3:
        return 0.0
    differences = np.mean(np.sum(np.diff(points, axis=0) ** 2, axis=1)) / 2  # von Neumann's ratio (1941)
    return max(0.0, 1.0 - float(differences) / spread)


def _of_split(bench: Bench, sortedness: float) -> list[Remark]:
    """Return a remark where sorted data was cut into parts that have other targets."""
    if sortedness <= 0.5:
        return []
    train, validation = (bench.examples.targets[bench.split.of(part)] for part in ("train", "validation"))
    if bench.classifies:
        shares = [np.bincount(t, minlength=bench.examples.num_outputs) / len(t) for t in (train, validation)]
        distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    else:
        merged = np.sort(np.concatenate([train, validation]))
        below = [np.searchsorted(np.sort(t), merged, side="right") / len(t) for t in (train, validation)]
        distance = float(np.abs(below[0] - below[1]).max())
    if distance < OTHER_CLASSES or len(validation) < 10:
        return []
    words = (
        f"the data is sorted by target and was divided by its order: validation differs from train in {distance:.0%}"
    )
    advice = "divide at random: split.group=null, split.time=null, split.stratify=true"
    return [(failed if bench.classifies else warned)(f"{words} of its targets", advice)]


def _of_steps(bench: Bench) -> list[Remark]:
    """Return a remark where neighbours agree in the targets of the examples some steps on, and not in their own."""
    from sklearn.neighbors import NearestNeighbors

    chosen = bench.sample("train", NEIGHBOURS)
    if np.prod(bench.examples.inputs.shape[1:]) > WIDE:
        inputs = vectors(bench).of(chosen)
    else:
        inputs = np.nan_to_num(bench.examples.inputs[chosen].reshape(len(chosen), -1).astype(np.float32))
    with np.errstate(over="ignore", invalid="ignore"):  # of infinite inputs, which are found below
        inputs = (inputs - inputs.mean(axis=0)) / np.maximum(inputs.std(axis=0), 1e-6)
    if len(chosen) < 30 or not np.isfinite(inputs).all():
        return []
    found = NearestNeighbors(n_neighbors=2).fit(inputs).kneighbors(inputs, return_distance=False)
    itself = found[:, 0] == np.arange(len(chosen))
    pairs = np.stack([chosen, chosen[np.where(itself, found[:, 1], found[:, 0])]])
    own = _agreement(bench, pairs, 0)
    best = max(STEPS_APART, key=lambda step: _agreement(bench, pairs, step))
    there = _agreement(bench, pairs, best)
    if there < FAR or own > there / 2:
        return []
    words = (
        f"similar inputs have similar targets only {best:+d} places on in the data ({there:.3g} standard deviations "
        f"over chance; {own:.3g} in their own place)"
    )
    return [failed(words, "inputs and targets are out of step: put each target back beside its input")]


def _agreement(bench: Bench, pairs: Array, step: int) -> float:
    """Return how much more alike than chance the targets so many places on are, in standard deviations."""
    moved = pairs + step
    usable = ~np.isin(moved, bench.split.test).any(axis=0) & (moved >= 0).all(axis=0)
    usable &= (moved < len(bench.examples)).all(axis=0)
    if usable.sum() < 20:
        return 0.0
    first, second = bench.examples.targets[moved[:, usable]]
    if bench.classifies:
        shares = np.bincount(np.concatenate([first, second])) / (2 * len(first))
        chance = float((shares**2).sum())
        scale = np.sqrt(max(chance * (1 - chance), 1e-12) / len(first))
        return float((np.mean(first == second) - chance) / scale)
    spread = np.concatenate([first, second]).astype(np.float64)
    product = (first - spread.mean()) * (second - spread.mean()) / max(spread.var(), 1e-12)
    return float(product.mean() * np.sqrt(len(first)))


CHECK = Check(row="R05", title="order of the examples", look=look)
