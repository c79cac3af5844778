"""R19: every parameter is known, held by the optimiser, gets a gradient that is right, and moves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from search.checks.bench import Bench, minibatches
from search.checks.check import Check, Found
from search.checks.evidence import Sheet
from search.checks.setup.differences import errors_of
from search.checks.setup.parts import buffers_kept
from search.keyed import keyed_int
from search.records import CheckVerdict, worst
from search.train import steps
from search.train.batches import Batch
from search.train.setup import Setup

BATCHES = 4
"""With a step after each: what lies under a last layer of zeros gets its gradient from the second on."""
LATE = 32
"""Batches after which what has not moved yet is said never to: some optimisers step at every eighth call alone."""
NOISE = 1e-6
"""Of a layer's largest gradient; less is what rounding leaves, of a bias before batch norm, say."""
UNKNOWN_RATE = 1e-12
"""Of groups whose learning rate has another name: too little to say what should have moved."""
DEAD, MANY_DEAD = 0.9, 0.5
"""Share of a layer's units without a gradient in any batch."""
EXAMPLES = 8
FAIL, WARN = 0.1, 0.01
"""Relative error of a gradient; right ones have 1e-6."""
NAMED = 5
Problem = tuple[CheckVerdict, str, str]
"""How bad, in words, and what to do."""


@dataclass(kw_only=True)
class _Parameter:
    """What became of one parameter in the steps."""

    full_name: str
    value: Tensor
    held: bool
    rate: float
    layer: str
    module: str
    gradient: Tensor | None = None
    moved: bool = False
    use: int | None = None
    """When a forward pass first took it, among all parameters; None where none did."""

    @property
    def name(self) -> str:
        """Its name in the user's network."""
        return self.full_name.removeprefix("network.")

    def note(self, gradient: Tensor | None) -> None:
        """Keep the largest that each gradient was."""
        if gradient is not None:
            size = gradient.detach().to_dense().abs()
            self.gradient = size if self.gradient is None else torch.maximum(self.gradient, size)

    @property
    def largest(self) -> float:
        """Its largest gradient in any batch; 0 where it has none."""
        return float(self.gradient.max()) if self.gradient is not None and self.gradient.numel() else 0.0

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
        step = self.rate * self.largest
        return step > 1e-6 * float(self.value.detach().abs().max())


class _Uses(TorchFunctionMode):
    """Notes which parameters functions of torch are given, in the order in which they first are."""

    def __init__(self, parameters: list[_Parameter]) -> None:
        super().__init__()
        self._unseen = {id(p.value): p for p in parameters if p.use is None}
        self._seen = len(parameters) - len(self._unseen)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _reads(func):
            for value in tree_leaves((args, kwargs)):
                found = self._unseen.pop(id(value), None) if isinstance(value, nn.Parameter) else None
                if found is not None:
                    found.use, self._seen = self._seen, self._seen + 1
        return func(*args, **(kwargs or {}))


def _reads(func: Any) -> bool:
    """Tell whether a function takes values: what asks for a shape, a device or a gradient's flag does not use them."""
    return getattr(func, "__name__", "") not in ("__get__", "__set__", "size", "dim", "numel", "is_floating_point")


def look(bench: Bench) -> Found:
    """Take a few steps and look at each parameter, then hold the gradients against differences of the loss."""
    setup = bench.bare_setup(key="gradients")
    hidden = _hidden(setup, bench.drawn(EXAMPLES))
    parameters = _parameters(setup)
    first = _steps(setup, parameters)
    errors, why_not = errors_of(bench)
    frozen, kept = _frozen(bench, parameters)
    problems = [*hidden, *frozen, *_forgotten(setup, parameters), *_without(parameters)]
    problems += [*_still(parameters, first), *_wrong(errors)]
    verdict = worst(*(problem[0] for problem in problems))
    problems.sort(key=lambda problem: list(CheckVerdict).index(problem[0]), reverse=True)
    largest = max(errors.values(), default=float("nan"))
    agree = f"; it agrees with finite differences to {largest:.2g}" if errors else ""
    agree += f"; {why_not}" if why_not else ""
    number = sum(p.value.requires_grad for p in parameters)
    good = f"all {number} parameter tensors get a gradient and change{agree}{kept}"
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
    gradient = parameter.largest
    error = errors.get(parameter.name, "")
    shape = "x".join(map(str, parameter.value.shape))
    trainable = parameter.value.requires_grad
    return parameter.name, shape, trainable, parameter.held, gradient, parameter.dead_units, parameter.moved, error


def _parameters(setup: Setup) -> list[_Parameter]:
    rates = {
        id(p): float(group.get("lr", UNKNOWN_RATE)) for group in setup.optimizer.param_groups for p in group["params"]
    }
    modules = dict(setup.model.named_modules())
    return [
        _Parameter(
            full_name=name,
            value=value,
            held=id(value) in rates,
            rate=rates.get(id(value), 0.0),
            layer=name.rpartition(".")[0],
            module=type(modules[name.rpartition(".")[0]]).__name__,
        )
        for name, value in setup.model.named_parameters()
    ]


def _steps(setup: Setup, parameters: list[_Parameter]) -> int | None:
    """Take steps; return after which of them the first parameter had moved."""
    first = None
    for taken, batch in enumerate(minibatches(setup, LATE), 1):
        _step(setup, batch, parameters)
        if first is None and any(p.moved for p in parameters):
            first = taken
        if taken >= BATCHES and (first is not None or not _due(parameters)):
            break
    trainable = [p for p in parameters if p.value.requires_grad]
    for batch in minibatches(setup, 2 * BATCHES):
        if all(p.largest for p in trainable):
            break
        _probe(setup, batch, trainable)
    return first


def _probe(setup: Setup, batch: Batch, trainable: list[_Parameter]) -> None:
    """Note which parameters a pass uses, and their gradients, without a step."""
    with buffers_kept(setup.model):
        with _Uses(trainable):
            outputs = setup.model(batch[0])
        loss = setup.loss(outputs, batch[1], batch[2])
        found = torch.autograd.grad(loss, [p.value for p in trainable], allow_unused=True)
    for parameter, gradient in zip(trainable, found, strict=True):
        parameter.note(gradient)


def _step(setup: Setup, batch: Batch, parameters: list[_Parameter]) -> None:
    """Take a step, and note which parameters had a gradient, and which moved."""
    before = [p.value.detach().clone() for p in parameters]
    steps.seed_everything(keyed_int(setup.seed, "gradients"))
    setup.model.train()
    steps.train_step(setup.model, setup.optimizer, setup.loss, batch)
    for parameter, old in zip(parameters, before, strict=True):
        parameter.note(parameter.value.grad)
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


def _frozen(bench: Bench, parameters: list[_Parameter]) -> tuple[list[Problem], str]:
    """Judge what is frozen, and name it: random weights are frozen by accident, those that were loaded on purpose."""
    frozen = [p for p in parameters if not p.value.requires_grad or (p.held and p.rate == 0)]
    if not frozen:
        return [], ""
    others = dict(bench.setup(key="gradients of another seed").model.named_parameters())
    random = [p for p in frozen if not torch.equal(p.value.detach(), others[p.full_name].detach())]
    text = f"{len(frozen)} of {len(parameters)} parameters are frozen"
    if not random:
        return [], f"; {text}, with the same weights whatever the seed: {_some([p.name for p in frozen])}"
    text += f", with weights drawn at random: {_some([p.name for p in random])}"
    return [(CheckVerdict.WARN, text, "leave them so if that is meant")], ""


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
    none = [p for p in trainable if p.gradient is None]
    cut = [p.name for p in none if p.use is not None]
    if cut:
        text = f"{len(cut)} trainable parameters are used, but get no gradient at all: {_some(cut)}"
        problems.append((CheckVerdict.FAIL, text, "look for a detach, a no_grad or an argmax after them"))
    unused = [p.name for p in none if p.use is None]
    if unused:
        text = f"{len(unused)} trainable parameters are never used, so they get no gradient: {_some(unused)}"
        problems.append((CheckVerdict.WARN, text, "use them in forward, or leave them out"))
    zero = [p for p in trainable if p.gradient is not None and not bool(p.gradient.any())]
    if zero:
        verdict = CheckVerdict.FAIL if _is_cut_off(zero, trainable) else CheckVerdict.WARN
        text = f"the gradient of {len(zero)} parameters is exactly 0 in every batch: {_some([p.name for p in zero])}"
        problems.append((verdict, text, "look for dead ReLU units, a loss that is clipped, outputs that saturate"))
    dead = [p for p in trainable if p not in zero and p.dead_units > MANY_DEAD]
    if dead:
        most = max(dead, key=lambda p: p.dead_units)
        verdict = CheckVerdict.FAIL if most.dead_units > DEAD else CheckVerdict.WARN
        text = f"{most.dead_units:.0%} of the units of {most.name} get no gradient in any batch"
        problems.append((verdict, text, "look for dead ReLU units: initialise after He with a bias of 0"))
    return problems


def _is_cut_off(zero: list[_Parameter], trainable: list[_Parameter]) -> bool:
    """Tell whether all up to some layer learns nothing; of parallel branches one may be asked for nothing yet."""
    matrices = [p.use for p in zero if p.value.ndim >= 2 and p.use is not None]
    alive = [p.use for p in trainable if p.largest > 0 and p.value.ndim >= 2 and p.use is not None]
    return bool(matrices) and (not alive or max(matrices) < min(alive))


def _due(parameters: list[_Parameter]) -> list[_Parameter]:
    """Return those that have to move: held, with a learning rate, and a gradient that is more than rounding."""
    largest: dict[str, float] = {}
    for p in parameters:
        largest[p.layer] = max(p.largest, largest.get(p.layer, 0.0))
    return [p for p in parameters if p.held and p.rate > 0 and p.largest > NOISE * largest[p.layer]]


def _still(parameters: list[_Parameter], first: int | None) -> list[Problem]:
    """Name parameters that stay where they are although they have a gradient and a learning rate."""
    if first is not None and first > BATCHES:
        text = f"the optimiser moves nothing before step {first}"
        return [(CheckVerdict.WARN, text, "if it collects gradients, see that those of the steps between are not lost")]
    still = [p for p in _due(parameters) if not p.moved]
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
                f"the gradient of {len(names)} parameters differs from finite differences of the loss by up to "
                f"{max(errors[name] for name in names):.2g}: {_some(names)}"
            )
            return [(verdict, text, "mend the backward of a custom function or layer, or a detach in forward")]
    straight = [name for name, error in errors.items() if math.isinf(error)]
    if straight:
        text = f"{len(straight)} parameters have a gradient that the loss does not follow: {_some(straight)}"
        return [(CheckVerdict.WARN, text, "this is right for a straight-through estimator alone")]
    return []


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


CHECK = Check(row="R19", title="every parameter gets a gradient", look=look)
