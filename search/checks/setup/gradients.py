"""R19: every parameter is known, held by the optimiser, gets a gradient that is right, and moves."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from search.checks.bench import Bench, minibatches
from search.checks.check import Check, Found, worst
from search.checks.evidence import Sheet
from search.keyed import keyed_int
from search.records import CheckVerdict
from search.train import steps
from search.train.batches import Batch
from search.train.setup import Setup

BATCHES = 4
"""With a step after each: what lies under a last layer of zeros gets its gradient from the second on."""
DEAD, MANY_DEAD = 0.9, 0.5
"""Share of a layer's units without a gradient in any batch."""
EXAMPLES = 8
TENSORS = 12
STEP = 1e-6
"""Of a central difference in float64, over the norm of the weights: errs by 1e-10 and rarely crosses a kink."""
SMOOTH = 1e-2
"""What differences of two step sizes may differ by where the loss is smooth."""
FAIL, WARN = 0.1, 0.01
"""Relative error of a gradient; right ones have 1e-6."""
FLOOR = 1e-7
NAMED = 5
Problem = tuple[CheckVerdict, str, str]
"""How bad, in words, and what to do."""


@dataclass(kw_only=True)
class _Parameter:
    """What became of one parameter in the steps."""

    name: str
    value: Tensor
    held: bool
    rate: float
    module: str
    gradient: Tensor | None = None
    moved: bool = False

    @property
    def dead_units(self) -> float:
        """The share of units without a gradient; 0 of layers whose units may well get none (embeddings)."""
        if (
            self.gradient is None
            or self.gradient.ndim < 2
            or self.module not in ("Linear", "Conv1d", "Conv2d", "Conv3d")
        ):
            return 0.0
        return float((self.gradient.flatten(1).amax(dim=1) == 0).float().mean())

    @property
    def would_move(self) -> bool:
        """Tell whether a plain step would be seen in float32."""
        step = self.rate * float(self.gradient.max()) if self.gradient is not None else 0.0
        return step > 1e-6 * float(self.value.detach().abs().max())


def look(bench: Bench) -> Found:
    """Take a few steps and look at each parameter, then hold the gradients against differences of the loss."""
    setup = bench.bare_setup(key="gradients")
    hidden = _hidden(setup, bench.drawn(EXAMPLES))
    parameters = _parameters(setup)
    taken = 0
    for batch in minibatches(setup, BATCHES):
        _step(setup, batch, parameters)
        taken += 1
    errors, why_not = _errors(bench)
    problems = [*hidden, *_frozen(parameters), *_forgotten(setup, parameters), *_without(parameters)]
    problems += [*_still(parameters), *_wrong(errors)]
    verdict = worst(*(problem[0] for problem in problems))
    problems.sort(key=lambda problem: list(CheckVerdict).index(problem[0]), reverse=True)
    largest = max(errors.values(), default=float("nan"))
    agree = f"; {why_not}" if why_not else f", and differs from differences of the loss by {largest:.2g} at most"
    good = f"each of {len(parameters)} parameters gets a gradient within {taken} batches and moves{agree}"
    sheet = Sheet(
        name="parameters",
        columns=(
            "parameter",
            "shape",
            "trainable",
            "in the optimiser",
            "largest gradient",
            "dead units",
            "moved",
            "error",
        ),
        rows=tuple(sorted((_row(p, errors) for p in parameters), key=lambda row: (row[4], row[0]))),
    )
    return Found(
        verdict=verdict,
        sentence="; ".join(problem[1] for problem in problems) or good,
        advice="; ".join(dict.fromkeys(problem[2] for problem in problems)),
        expected={"without_gradient": 0, "not_in_optimizer": 0, "gradient_error": 0},
        measured={
            "parameters": len(parameters),
            "without_gradient": sum(p.gradient is None and p.value.requires_grad for p in parameters),
            "not_in_optimizer": sum(not p.held and p.value.requires_grad for p in parameters),
            "gradient_error": largest,
        },
        evidence=(sheet,),
    )


def _row(parameter: _Parameter, errors: dict[str, float]) -> tuple[object, ...]:
    gradient = float(parameter.gradient.max()) if parameter.gradient is not None else 0.0
    error = errors.get(parameter.name, "")
    shape = "x".join(map(str, parameter.value.shape))
    trainable = parameter.value.requires_grad
    return parameter.name, shape, trainable, parameter.held, gradient, parameter.dead_units, parameter.moved, error


def _parameters(setup: Setup) -> list[_Parameter]:
    rates = {id(p): float(group["lr"]) for group in setup.optimizer.param_groups for p in group["params"]}
    modules = dict(setup.model.named_modules())
    return [
        _Parameter(
            name=name.removeprefix("network."),
            value=value,
            held=id(value) in rates,
            rate=rates.get(id(value), 0.0),
            module=type(modules[name.rpartition(".")[0]]).__name__,
        )
        for name, value in setup.model.named_parameters()
    ]


def _step(setup: Setup, batch: Batch, parameters: list[_Parameter]) -> None:
    """Take a step, and note which parameters had a gradient, and which moved."""
    before = [p.value.detach().clone() for p in parameters]
    steps.seed_everything(keyed_int(setup.seed, "gradients"))
    setup.model.train()
    steps.train_step(setup.model, setup.optimizer, setup.loss, batch)
    for parameter, old in zip(parameters, before, strict=True):
        found = parameter.value.grad
        if found is not None:
            size = found.detach().abs()
            parameter.gradient = size if parameter.gradient is None else torch.maximum(parameter.gradient, size)
        parameter.moved = parameter.moved or not torch.equal(parameter.value.detach(), old)


def _hidden(setup: Setup, batch: Batch) -> list[Problem]:
    """Find tensors that the outputs or the loss depend on and that are no parameters: the optimiser never sees them."""
    known = {id(p) for p in setup.model.parameters()}
    setup.model.train()
    outputs = setup.model(batch[0])
    inside = [t for t in _leaves(outputs) if id(t) not in known]
    of_loss = [t for t in _leaves(setup.loss(outputs, batch[1], batch[2])) if id(t) not in known]
    named = _unregistered(setup.model, known)
    problems = []
    if inside or named:
        found = named or ["tensors of the shapes " + _some(["x".join(map(str, t.shape)) for t in inside])]
        text = f"{max(len(inside), len(named))} trainable tensors are not registered as parameters: {_some(found)}"
        problems.append(
            (CheckVerdict.FAIL, text, "keep layers in nn.ModuleList or nn.ModuleDict, not in a list or dict")
        )
    own = [t for t in of_loss if not any(t is other for other in inside)]
    if own:
        text = f"{len(own)} trainable tensors of the loss are not trained"
        problems.append((CheckVerdict.WARN, text, "the optimiser gets the network's parameters only"))
    return problems


def _leaves(value: Tensor) -> list[Tensor]:
    """Return the leaves that a value has a gradient to."""
    seen, queue, leaves = set(), [value.grad_fn], []
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        queue += [parent for parent, _ in node.next_functions]
    return leaves


def _unregistered(model: nn.Module, known: set[int]) -> list[str]:
    """Return the names of what modules hold in plain lists and dicts."""
    names = []
    for path, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute.startswith("_") and attribute in vars(nn.Module()):
                continue
            tensors = [t for held in _held(value) for t in held]
            if any(t.requires_grad and t.is_leaf and id(t) not in known for t in tensors):
                names.append(f"{path}.{attribute}".removeprefix("network."))
    return names


def _held(value: object, depth: int = 3) -> Iterator[list[Tensor]]:
    if isinstance(value, nn.Module):
        yield list(value.parameters())
    elif isinstance(value, nn.Parameter):
        yield [value]
    elif isinstance(value, (list, tuple, dict)) and depth:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _held(item, depth - 1)


def _frozen(parameters: list[_Parameter]) -> list[Problem]:
    names = [p.name for p in parameters if not p.value.requires_grad]
    names += [p.name for p in parameters if p.value.requires_grad and p.held and p.rate == 0]
    if not names:
        return []
    text = f"{len(names)} of {len(parameters)} parameters are frozen: {_some(names)}"
    return [(CheckVerdict.WARN, text, "leave them so if that is meant")]


def _forgotten(setup: Setup, parameters: list[_Parameter]) -> list[Problem]:
    problems = []
    names = [p.name for p in parameters if p.value.requires_grad and not p.held]
    if names:
        text = f"the optimiser does not hold {len(names)} of {len(parameters)} parameters: {_some(names)}"
        problems.append((CheckVerdict.FAIL, text, "give the optimiser all that it is called with"))
    known = {id(p.value) for p in parameters}
    foreign = sum(id(p) not in known for group in setup.optimizer.param_groups for p in group["params"])
    if foreign:
        text = f"the optimiser holds {foreign} tensors that are not the network's"
        problems.append((CheckVerdict.WARN, text, "give the optimiser what it is called with, not copies"))
    return problems


def _without(parameters: list[_Parameter]) -> list[Problem]:
    """Name trainable parameters that no batch reaches."""
    problems = []
    trainable = [p for p in parameters if p.value.requires_grad and p.value.numel()]
    none = [p.name for p in trainable if p.gradient is None]
    if none:
        text = f"{len(none)} trainable parameters get no gradient at all: {_some(none)}"
        problems.append((CheckVerdict.FAIL, text, "use them in forward, without detach or no_grad, or leave them out"))
    zero = [p for p in trainable if p.gradient is not None and not bool(p.gradient.any())]
    if zero:
        bad = any(p.value.ndim >= 2 for p in zero)
        verdict = CheckVerdict.FAIL if bad else CheckVerdict.WARN
        text = f"the gradient of {len(zero)} parameters is exactly 0 in every batch: {_some([p.name for p in zero])}"
        problems.append((verdict, text, "look for dead ReLU units, a loss that is clipped, outputs that saturate"))
    dead = [p for p in trainable if p not in zero and p.dead_units > MANY_DEAD]
    if dead:
        most = max(dead, key=lambda p: p.dead_units)
        verdict = CheckVerdict.FAIL if most.dead_units > DEAD else CheckVerdict.WARN
        text = f"{most.dead_units:.0%} of the units of {most.name} get no gradient in any batch"
        problems.append((verdict, text, "look for dead ReLU units: initialise after He with a bias of 0"))
    return problems


def _still(parameters: list[_Parameter]) -> list[Problem]:
    """Name parameters that stay where they are although they have a gradient and a learning rate."""
    due = [p for p in parameters if p.held and p.rate > 0 and p.gradient is not None and bool(p.gradient.any())]
    still = [p for p in due if not p.moved]
    if not still:
        return []
    text = f"{len(still)} parameters with a gradient do not move in a step: {_some([p.name for p in still])}"
    # where the learning rate is too low for float32, others say so (R36)
    verdict = CheckVerdict.FAIL if any(p.would_move for p in still) else CheckVerdict.WARN
    return [(verdict, text, "look at the optimiser's parameter groups, and whether steps vanish in float32")]


def _wrong(errors: dict[str, float]) -> list[Problem]:
    for limit, verdict in ((FAIL, CheckVerdict.FAIL), (WARN, CheckVerdict.WARN)):
        names = [name for name, error in errors.items() if error > limit and not math.isinf(error)]
        if names:
            text = (
                f"the gradient of {len(names)} parameters differs from differences of the loss by up to "
                f"{max(errors[name] for name in names):.2g}: {_some(names)}"
            )
            return [(verdict, text, "mend the backward of a custom function or layer, or a detach in forward")]
    straight = [name for name, error in errors.items() if math.isinf(error)]
    if straight:
        text = f"{len(straight)} parameters have a gradient that the loss does not follow: {_some(straight)}"
        return [(CheckVerdict.WARN, text, "this is right for a straight-through estimator alone")]
    return []


def _errors(bench: Bench) -> tuple[dict[str, float], str]:
    """Return by how much gradients differ from central differences, by parameter, or why that cannot be said.

    Evaluation mode and float64, along the gradient itself and a random half of it; the better of the two counts.
    Infinite where the loss does not change at all.
    """
    setup = bench.bare_setup(key="gradients")
    batch = bench.batch(EXAMPLES, key="gradients")
    try:
        model = copy.deepcopy(setup.model).double().eval()
        loss = _loss_of(bench, setup, model, batch)
        with torch.backends.cudnn.flags(enabled=False):
            value = loss()
            if value.dtype != torch.float64 or float(value.detach()) != float(loss().detach()):
                return {}, "the loss cannot be held against differences: it is not a function in float64"
            return _compared(bench, model, loss, value), ""
    except (RuntimeError, TypeError, NotImplementedError) as error:
        return {}, f"the loss cannot be held against differences: {str(error).splitlines()[0][:80]}"


def _loss_of(bench: Bench, setup: Setup, model: nn.Module, batch: Batch) -> Callable[[], Tensor]:
    inputs, targets, indices = batch
    wide = targets if bench.classifies else targets.double()

    def loss() -> Tensor:
        steps.seed_everything(keyed_int(setup.seed, "gradients"))
        return setup.loss(model(inputs), wide, indices)

    return loss


def _compared(bench: Bench, model: nn.Module, loss: Callable[[], Tensor], value: Tensor) -> dict[str, float]:
    named = [(name.removeprefix("network."), p) for name, p in model.named_parameters() if p.requires_grad]
    every = max(1, math.ceil(len(named) / TENSORS))
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


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


CHECK = Check(row="R19", title="every parameter gets a gradient", look=look)
