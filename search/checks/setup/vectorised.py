"""R23: a batch gives what its examples give one by one, and every way to a batch the same one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from search.checks.bench import Bench
from search.checks.check import Check, Found, skipped
from search.checks.evidence import Sheet
from search.checks.setup.parts import FAIL, PASS, SKIP, WARN, Part, awaken, distance, found_of, outputs_of, precise
from search.traces import told
from search.train import steps
from search.train.batches import Batch, Batches, LoaderBatches
from search.train.data.arrays import Array
from search.train.setup import Setup

EXAMPLES = 16
TOLERANCE = 1e-4
"""Of the largest value. float32 sums in another order: healthy networks measured 1e-7 to 2e-6."""
WRONG = 100
"""Times the tolerance: no rounding of a usable network goes so far."""
NOTHING = 1e-6
"""Of the batch's gradient: a scale that would be that of rounding."""
ADVICE = "look for a reshape that takes the batch for another dimension, or a sum or mean over the batch"
ROWS, ROWS_BATCH = 61, 7
"""Of examples whose batches are compared bit for bit; the last batch is not whole."""


def look(bench: Bench) -> Found:
    """Compare outputs, losses and gradients of a batch with those of its examples, and batches with the arrays."""
    setup, batch = bench.bare_setup(), bench.batch(EXAMPLES)
    awaken(setup.model, bench.seed % 2**32)
    setup.model.eval()
    with precise():
        outputs = outputs_of(setup.model, batch[0])
        if not bool(torch.isfinite(outputs).all()):
            return skipped("the outputs of a new network are not finite")
        if distance(outputs_of(setup.model, batch[0], seed=1), outputs) > TOLERANCE:
            return skipped("two passes in evaluation mode differ: a batch cannot be compared with its examples")
        parts, measured = _passes(setup, batch, outputs)
    parts += _ways(bench)
    sheet = Sheet(
        name="differences",
        columns=("what", "difference over the largest value", "tolerance"),
        rows=[(name.replace("_", " "), value, TOLERANCE) for name, value in measured.items()],
    )
    return found_of(parts, passed=_passed(measured, len(batch[1])), measured=measured, evidence=(sheet,))


def _passed(measured: Mapping[str, float], number: int) -> str:
    if not measured:
        return "batches hold exactly the rows of the data"
    found = ", ".join(f"{name.replace('_', ' ')} to {value:.1g}" for name, value in measured.items())
    return (
        f"a batch of {number} gives what its examples give one by one ({found}; {TOLERANCE} is allowed), and batches "
        "hold exactly the rows of the data"
    )


def _passes(setup: Setup, batch: Batch, outputs: Tensor) -> tuple[list[Part], dict[str, float]]:
    """Compare what a batch gives in evaluation mode with what its examples give one by one."""
    inputs, targets, indices = batch
    rows = [slice(i, i + 1) for i in range(len(targets))]
    singles = [(inputs[row], targets[row], indices[row]) for row in rows]
    try:
        one_by_one = torch.cat([outputs_of(setup.model, single[0]) for single in singles])
    except Exception as error:  # noqa: BLE001 - the user's model may do anything; R22 judges it
        words = f"a single example cannot be evaluated ({told(error)})"
        return [Part(what="outputs", verdict=SKIP, words=words)], {}
    measured = {"outputs": distance(outputs, one_by_one)}
    parts = [_compared("outputs", measured["outputs"], "those of single examples")]
    loss, mean = _loss(setup, outputs, batch), _mean_loss(setup, outputs, batch)
    off = abs(loss - mean) / max(abs(loss), abs(mean), 1e-30)
    if not setup.standard_loss and not off <= TOLERANCE:
        words = "the configured loss of a batch is not the mean of its examples', which may be meant"
        return [*parts, Part(what="loss", verdict=SKIP, words=words)], measured
    measured["loss"] = off
    parts.append(_compared("loss", off, "the mean of single examples'"))
    whole = _gradient(setup, batch)
    if whole is None:
        return [
            *parts,
            Part(what="gradient", verdict=SKIP, words="in evaluation mode there are no gradients"),
        ], measured
    one_by_one, scale = _mean_gradient(setup, singles)
    if scale < NOTHING * float(whole.abs().max()):
        words = "the gradient of single examples is zero, that of their batch is not"
        return [*parts, Part(what="gradient", verdict=FAIL, words=words, advice=ADVICE)], measured
    measured["gradient"] = _off(whole, one_by_one, scale)
    parts.append(_compared("gradient", measured["gradient"], "the mean of single examples'"))
    some, halves = (_step_gradient(setup, batch, number) for number in (1, 2))
    measured["micro_batches"] = _off(halves, some, scale)
    parts.append(_compared("gradient in two micro-batches", measured["micro_batches"], "that of the batch at once"))
    return parts, measured


def _compared(what: str, off: float, other: str) -> Part:
    if off <= TOLERANCE:
        return Part(what=what, verdict=PASS, words=f"{what}: {other}, to {off:.1g}")
    verdict = WARN if off <= WRONG * TOLERANCE else FAIL  # NaN is wrong
    words = f"{what} of a batch: not {other}, but off by {off:.3g} of the largest value ({TOLERANCE} is allowed)"
    return Part(what=what, verdict=verdict, words=words, advice=ADVICE)


def _loss(setup: Setup, outputs: Tensor, batch: Batch) -> float:
    return float(setup.loss(outputs, batch[1], batch[2]))


def _mean_loss(setup: Setup, outputs: Tensor, batch: Batch) -> float:
    rows = (slice(i, i + 1) for i in range(len(outputs)))
    return float(np.mean([_loss(setup, outputs[row], (batch[0][row], batch[1][row], batch[2][row])) for row in rows]))


def _gradient(setup: Setup, batch: Batch) -> Tensor | None:
    """Return the gradient of a batch's loss after all trained weights (P,)."""
    weights = [w for w in setup.model.parameters() if w.requires_grad]
    steps.seed_everything(0)
    loss = setup.loss(setup.model(batch[0]), batch[1], batch[2])
    if not loss.requires_grad:
        return None
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return _flat(weights, found)


def _mean_gradient(setup: Setup, singles: Sequence[Batch]) -> tuple[Tensor, float]:
    """Return the mean of the examples' gradients (P,), and the largest value in any of them."""
    total, scale = torch.zeros(()), 0.0
    for single in singles:
        gradient = _gradient(setup, single)
        assert gradient is not None
        total = total.to(gradient.device) + gradient / len(singles)
        scale = max(scale, float(gradient.abs().max()))
    return total, scale


def _step_gradient(setup: Setup, batch: Batch, number: int) -> Tensor:
    """Return the gradient (P,) that a training step in so many micro-batches takes, in evaluation mode."""
    weights = [w for w in setup.model.parameters() if w.requires_grad]
    still = torch.optim.SGD(weights, lr=0.0)
    still.zero_grad()
    steps.train_step(setup.model, still, setup.loss, batch, micro_batches=number)
    return _flat(weights, [w.grad for w in weights])


def _flat(weights: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Tensor:
    pairs = zip(weights, gradients, strict=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g.detach()).flatten() for w, g in pairs])


def _off(some: Tensor, others: Tensor, scale: float) -> float:
    """Return the largest difference over the largest value of an example's gradient: their mean may be next to zero."""
    return float((some - others).abs().max()) / max(scale, 1e-30)


def _ways(bench: Bench) -> Iterator[Part]:
    """Compare batches with the arrays' rows, bit for bit: as trials get them, from memory, and through the loader."""
    rows = bench.generator("rows").permutation(bench.split.train)[:ROWS]
    examples = bench.examples
    loader = LoaderBatches(examples, bench.device, 0)
    ways: dict[str, Batches] = {"the loader": loader}
    if not isinstance(bench.batches, LoaderBatches):
        ways["memory"] = bench.batches
    for name, batches in ways.items():
        parts = list(zip(*batches(torch.as_tensor(rows), ROWS_BATCH), strict=True))
        inputs, targets, indices = (torch.cat(part).cpu().numpy() for part in parts)
        wanted = (examples.inputs[rows], examples.targets[rows], rows)
        same = [_same(a, b) for a, b in zip((inputs, targets, indices), wanted, strict=True)]
        if all(same):
            words = f"{len(rows)} rows from {name} are exactly those of the data"
            yield Part(what=name, verdict=PASS, words=words)
            continue
        which = " and ".join(w for w, s in zip(("inputs", "targets", "indices"), same, strict=True) if not s)
        words = f"{which} of batches from {name} are not those of the examples asked for"
        advice = "each row of a batch has to be the example of its index"
        yield Part(what=name, verdict=FAIL, words=words, advice=advice)


def _same(some: Array, others: Array) -> bool:
    return some.dtype == others.dtype and some.shape == others.shape and some.tobytes() == others.tobytes()


CHECK = Check(row="R23", title="batches against single examples", look=look)
