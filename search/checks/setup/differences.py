"""R19, of the gradients' values: they agree with finite differences of the loss in float64."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from search.checks.bench import Bench, copy_of
from search.keyed import keyed_int
from search.traces import told
from search.train import steps
from search.train.batches import Batch
from search.train.setup import Setup

EXAMPLES = 8
TENSORS = 12
PASSES = 8
"""Of a tensor: two directions, two step sizes, two signs."""
SECONDS = 5.0
"""For all passes; a slow network has fewer tensors compared."""
STEP = 1e-6
"""Of a central difference in float64, over the norm of the weights: errs by 1e-10 and rarely crosses a kink."""
SMOOTH = 1e-2
"""What differences of two step sizes may differ by where the loss is smooth."""
FLOOR = 1e-7


def errors_of(bench: Bench) -> tuple[dict[str, float], str]:
    """Return by how much gradients differ from central differences, by parameter, or why that cannot be said.

    Evaluation mode and float64, along the gradient itself and a random half of it; the better of the two counts.
    Infinite where the loss does not change at all. Of a slow network fewer parameters are compared, and that is said.
    """
    setup = bench.bare_setup(key="gradients")
    batch = bench.batch(EXAMPLES, key="gradients")
    try:
        model = copy_of(setup.model).double().eval()
        loss = _loss_of(bench, setup, model, batch)
        with torch.backends.cudnn.flags(enabled=False):
            value = loss()
            started = time.perf_counter()
            if value.dtype != torch.float64 or float(value.detach()) != float(loss().detach()):
                return {}, "the loss cannot be held against finite differences: it is not a function in float64"
            passes = int(SECONDS / max(time.perf_counter() - started, 1e-9))
            tensors = min(TENSORS, max(1, passes // PASSES))
            why = "" if tensors == TENSORS else f"compared for {tensors} tensors alone, for a pass is slow"
            return _compared(bench, model, loss, value, tensors), why
    except torch.OutOfMemoryError:
        raise  # the engine's to ease
    except (RuntimeError, TypeError) as error:
        # What torch raises for what float64 lacks: a kernel or a tensor made as float32 (RuntimeError), a
        # device without float64 (TypeError). A trial trains in float32, where the steps of this very
        # row have gone well: nothing is wrong with it, and the finding says that this was not compared, and why.
        return {}, f"the loss cannot be held against finite differences: {told(error)[:120]}"


def _loss_of(bench: Bench, setup: Setup, model: nn.Module, batch: Batch) -> Callable[[], Tensor]:
    inputs, targets, indices = batch
    wide = targets if bench.classifies else targets.double()

    def loss() -> Tensor:
        steps.seed_everything(keyed_int(setup.seed, "gradients"))
        return setup.loss(model(inputs), wide, indices)

    return loss


def _compared(
    bench: Bench, model: nn.Module, loss: Callable[[], Tensor], value: Tensor, tensors: int
) -> dict[str, float]:
    named = [(name.removeprefix("network."), p) for name, p in model.named_parameters() if p.requires_grad]
    every = max(1, math.ceil(len(named) / tensors))
    chosen = named[::-1][::every]  # the last layer is always among them
    gradients = torch.autograd.grad(value, [p for _, p in chosen], allow_unused=True)
    floor = FLOOR * max(1.0, abs(float(value.detach())))
    errors = {}
    with torch.no_grad():
        for (name, parameter), gradient in zip(chosen, gradients, strict=True):
            if gradient is None or float(gradient.norm()) < 10 * floor:
                continue
            half = bench.generator("gradients", name).random(tuple(gradient.shape)) < 0.5
            mask = torch.as_tensor(np.asarray(half), device=gradient.device)
            found = [_error(parameter, gradient, d, loss, floor) for d in (gradient, gradient * mask) if bool(d.any())]
            if all(error is not None for error in found):
                errors[name] = min(error for error in found if error is not None)
    return errors


def _error(
    parameter: Tensor, gradient: Tensor, direction: Tensor, loss: Callable[[], Tensor], floor: float
) -> float | None:
    """Return the relative error of the slope in a direction; None where the loss is not smooth there."""
    unit = direction / direction.norm()
    step = STEP * max(1.0, float(parameter.norm()))
    slope = float((gradient * unit).sum())
    one, other = (_difference(parameter, unit, size, loss) for size in (step, 3 * step))
    if not abs(one - other) <= SMOOTH * max(abs(one), abs(other)) + floor:
        return None
    if abs(one) < floor and abs(slope) > 10 * floor:
        return math.inf
    return abs(one - slope) / max(abs(one), abs(slope), floor)


def _difference(parameter: Tensor, unit: Tensor, step: float, loss: Callable[[], Tensor]) -> float:
    kept = parameter.clone()
    values = []
    for sign in (1, -1):
        parameter.copy_(kept + sign * step * unit)
        values.append(float(loss()))
    parameter.copy_(kept)
    return (values[0] - values[1]) / (2 * step)
