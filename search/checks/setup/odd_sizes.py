"""R22: prime-sized dimensions pass through the network, where another size hides a mistake."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from search.checks.bench import Bench
from search.checks.check import Check, Found, skipped
from search.checks.setup.parts import FAIL, PASS, SKIP, WARN, Part, found_of
from search.config.build import accepted
from search.errors import UsageError
from search.keyed import keyed_int
from search.traces import told
from search.train import steps
from search.train.batches import Batch
from search.train.data.arrays import Array, Dataset, Examples
from search.train.estimator import Estimator, build
from search.train.setup import Setup

BATCHES = (7, 13)


def look(bench: Bench) -> Found:
    """Take a step on batches of prime sizes; give the network inputs and outputs of prime sizes where it takes them."""
    usual = bench.batch(bench.config["trainer"]["batch_size"])
    setup = bench.setup()
    steps.train_step(setup.model, setup.optimizer, setup.loss, usual)  # what breaks here is no matter of sizes
    setup = bench.setup()
    if not _finite(setup.model.eval(), usual[0]):
        return skipped("the outputs of a new network are not finite, whatever their size")
    sizes = [size for size in BATCHES if size <= len(bench.split.train)]
    parts = [_batches(bench, sizes)]
    parts += [_single(setup, usual[0][:1]), _shape(bench, setup.model)]
    if bench.classifies:
        parts.append(_outputs(bench))
    passed = "; ".join(part.words for part in parts if part.verdict is PASS)
    return found_of(parts, passed=passed, measured={"usual_batch": len(usual[1])})


def _batches(bench: Bench, sizes: Sequence[int]) -> Part:
    """Evaluate batches of those sizes, and take a step on each."""
    what, setup = "batch size", bench.setup()
    for size in sizes:
        batch = bench.batch(size, key=str(size))
        fault = _fault(partial(_stepped, setup, batch))
        if fault is not None:
            words = f"a batch of {size} does not pass: {fault}"
            advice = "take the batch's size from the inputs, as inputs.flatten(1) does, and put no number for it"
            return Part(what=what, verdict=FAIL, words=words, advice=advice)
    if not sizes:
        return Part(what=what, verdict=SKIP, words=f"there are fewer than {BATCHES[0]} training examples")
    return Part(what=what, verdict=PASS, words=f"batches of {' and '.join(map(str, sizes))} examples pass")


def _stepped(setup: Setup, batch: Batch) -> bool:
    with torch.no_grad():
        finite = _finite(setup.model.eval(), batch[0])
    steps.train_step(setup.model.train(), setup.optimizer, setup.loss, batch)
    return finite


def _single(setup: Setup, inputs: Tensor) -> Part:
    """Evaluate one example: what the last batch of an evaluation may be left with."""
    fault = _fault(lambda: _finite(setup.model.eval(), inputs))
    if fault is None:
        return Part(what="batch of 1", verdict=PASS, words="so does a single one in evaluation")
    words = f"a single example cannot be evaluated: {fault}"
    advice = "a squeeze without a dimension drops the batch's: name the dimension"
    return Part(what="batch of 1", verdict=WARN, words=words, advice=advice)


def _shape(bench: Bench, model: Estimator) -> Part:
    """Pass inputs of prime size: through a network made for them, or else through that of the data as it is."""
    shape = tuple(bench.examples.inputs.shape[1:])
    odd = _odd(shape)
    what = "input size"
    takes = "in_shape" in accepted(bench.config["model"], {"in_shape": shape})
    if not takes and len(shape) == 1:
        return Part(what=what, verdict=SKIP, words="the model is made for this number of features")
    dataset = _dataset(bench, odd)
    if takes:
        try:
            model = _built(bench, dataset)
        except Exception as error:  # noqa: BLE001 - the user's model may do anything
            return Part(what=what, verdict=SKIP, words=f"no model of inputs {odd} can be made: {told(error)}")
    inputs = torch.tensor(dataset.examples.inputs).to(bench.device)
    fault = _fault(lambda: _finite(model.eval(), inputs))
    if fault is None:
        return Part(what=what, verdict=PASS, words=f"inputs {odd} pass")
    if not takes:
        return Part(what=what, verdict=SKIP, words=f"the model takes inputs {shape} alone: {fault}")
    words = f"a model made for inputs {odd} does not take them: {fault}"
    advice = "derive all sizes from in_shape; height and width are not the same"
    return Part(what=what, verdict=WARN, words=words, advice=advice)


def _outputs(bench: Bench) -> Part:
    """Build the network for a prime number of classes."""
    what, number = "outputs", bench.examples.num_outputs
    if "num_outputs" not in accepted(bench.config["model"], {"num_outputs": number}):
        return Part(what=what, verdict=SKIP, words="the model's number of outputs is its own")
    odd = _prime(number + 1)
    dataset = _dataset(bench, tuple(bench.examples.inputs.shape[1:]), odd)
    try:
        model = _built(bench, dataset)
    except Exception as error:  # noqa: BLE001 - the user's model may do anything
        return Part(what=what, verdict=SKIP, words=f"no model of {odd} outputs can be made: {told(error)}")
    inputs = torch.tensor(dataset.examples.inputs).to(bench.device)
    fault = _fault(lambda: _finite(model.eval(), inputs))
    if fault is None:
        return Part(what=what, verdict=PASS, words=f"{odd} outputs come out as asked for")
    words = f"a model made for {odd} outputs does not give them: {fault}"
    return Part(what=what, verdict=WARN, words=words, advice="make the last layer of num_outputs")


def _fault(passes: Callable[[], bool]) -> str | None:
    """Return why a pass raises or gives outputs that are not finite, if it does."""
    try:
        return None if passes() else "outputs are not finite"
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - the user's model may do anything
        return str(error) if isinstance(error, UsageError) else told(error)


def _finite(model: Estimator, inputs: Tensor) -> bool:
    with torch.no_grad():
        return bool(torch.isfinite(model(inputs)).all())


def _built(bench: Bench, dataset: Dataset) -> Estimator:
    steps.seed_everything(keyed_int(bench.seed, "odd sizes"))
    return build(bench.config["model"], dataset).to(bench.device)


def _dataset(bench: Bench, shape: tuple[int, ...], num_classes: int | None = None) -> Dataset:
    """Return training examples repeated up to another shape, or with more classes; real values, for embeddings say."""
    indices = bench.sample("train", bench.config["trainer"]["batch_size"])
    inputs = bench.examples.inputs[indices]
    pad = [(0, 0), *((0, new - old) for new, old in zip(shape, inputs.shape[1:], strict=True))]
    classes = bench.examples.classes
    if num_classes is not None:
        classes = tuple(f"class {c}" for c in range(num_classes))
    examples = Examples(
        name=bench.examples.name,
        inputs=np.pad(inputs, pad, mode="wrap"),
        targets=bench.examples.targets[indices],
        task=bench.examples.task,
        classes=classes,
    )
    everything: Array = np.arange(len(examples))
    split = dataclasses.replace(bench.split, train=everything, validation=everything, test=everything[:0])
    return Dataset(examples=examples, split=split)


def _odd(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the next larger primes, all different; channels stay, for they are no size."""
    sizes: list[int] = list(shape[:1]) if len(shape) > 1 else []
    for size in shape[len(sizes) :]:
        sizes.append(_prime(max([size, *sizes[1:]]) + 1) if len(shape) > 1 else _prime(size + 1))
    return tuple(sizes)


def _prime(least: int) -> int:
    """Return the smallest prime that is at least so large."""
    number = max(2, least)
    while any(number % d == 0 for d in range(2, math.isqrt(number) + 1)):
        number += 1
    return number


CHECK = Check(row="R22", title="odd sizes", look=look)
