"""R20: the loss fits its input: predictions that are right cost least, whatever else is in the batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from search.checks.bench import Bench
from search.checks.check import Check, Found
from search.checks.evidence import Curves, Evidence, Matrix
from search.records import CheckVerdict, worst
from search.train.batches import Batch
from search.train.setup import Setup

EXAMPLES = 64
MARGINS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 10.0, 15.0, 30.0)
"""Of the logit of one class over all others; or, of values, distances in standard deviations of the target."""
WRONG = 10.0
"""A margin that training comes to; a loss has to push back there."""
FAR = 5.0
"""Standard deviations off the target; the same for values."""
NEAR, OUTLYING = 1.0, 3.0
"""Where a loss without a gradient is no use, and where one may have none: Tukey's biweight from 4.7 on."""
DOUBLED, MIXED, EQUAL = 1.7, 0.05, 1e-3
"""A batch's loss over that of the batch taken once (2: a sum); what examples of a batch may do to each other's."""
SHIFT = 5.0
SHIFTED = 0.25
"""Of the loss of knowing nothing; a small penalty on logits changes it by less."""
HUGE = 100.0
BEST = 0.8
"""Times the loss of knowing nothing that right predictions have to get under (0.55 with label smoothing of 0.3)."""
SQUASHED = 0.3
"""Times the loss of knowing nothing; a loss that stays over it and is flat has had a softmax before it."""
SCALES = 1e3
CLASSES = 12
Problem = tuple[CheckVerdict, str, str]
"""How bad, in words, and what to do."""
_FAIL, _WARN = CheckVerdict.FAIL, CheckVerdict.WARN
LOGITS = "give the loss what it expects: logits to cross-entropy, log-probabilities to NLLLoss"


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """The loss as a function of made-up outputs."""

    setup: Setup
    batch: Batch
    as_network: Callable[[Tensor], Tensor]

    def __call__(self, outputs: Tensor, repeat: int = 1, targets: Tensor | None = None) -> float:
        given = self.batch[1] if targets is None else targets
        with torch.no_grad():
            value = self.setup.loss(
                self.as_network(outputs).repeat(repeat, 1), given.repeat(repeat), self.batch[2].repeat(repeat)
            )
        return float(value)

    def gradient(self, outputs: Tensor) -> Tensor:
        """Return the gradient with regard to the outputs."""
        leaf = self.as_network(outputs).clone().requires_grad_(True)
        value = self.setup.loss(leaf, self.batch[1], self.batch[2])
        if not value.requires_grad:
            return torch.zeros_like(leaf)
        (found,) = torch.autograd.grad(value, leaf, allow_unused=True)
        return torch.zeros_like(leaf) if found is None else found


def look(bench: Bench) -> Found:
    """Give the loss made-up outputs, right and wrong, and look at what new networks put out."""
    setup = bench.setup()
    batch = bench.batch(EXAMPLES, key="loss")
    problems, normalised = _ending(bench, setup)
    as_network = torch.nn.LogSoftmax(dim=1) if normalised else _same
    probe = _Probe(setup=setup, batch=batch, as_network=as_network)
    own = setup.model(batch[0]).detach()
    repeated = _ratio(probe(own, repeat=2), probe(own))
    found = _of_classes(bench, probe) if bench.classifies else _of_values(bench, probe)
    problems += _repetition(repeated) + found.problems
    if not bool(torch.isfinite(probe.gradient(own)).all()):
        problems.append((_FAIL, "the gradient at a new network's outputs is not finite", "mend the loss"))
    off = own[torch.arange(len(own)).roll(1)] + setup.model.target_std * torch.linspace(-2, 2, own.numel()).to(
        own
    ).reshape(own.shape)
    problems += _scales([_parts(setup, batch, outputs) for outputs in (own, off)])
    verdict = worst(*(problem[0] for problem in problems))
    problems.sort(key=lambda problem: list(CheckVerdict).index(problem[0]), reverse=True)
    guess = "a uniform guess" if bench.classifies else "the mean"
    good = (
        f"loss of right predictions {found.right:.3g}, of {guess} {found.nothing:.3g}, of wrong ones {found.wrong:.3g}"
    )
    cost = "the same" if abs(repeated - 1) < EQUAL else f"{repeated:.3g} times as much"
    return Found(
        verdict=verdict,
        sentence="; ".join(problem[1] for problem in problems) or f"{good}; a doubled batch costs {cost}",
        advice="; ".join(dict.fromkeys(problem[2] for problem in problems)),
        expected={"loss_of_batch_twice": 1.0},
        measured={
            "loss_of_batch_twice": repeated,
            "loss_right": found.right,
            "loss_of_nothing": found.nothing,
            "loss_wrong": found.wrong,
        },
        evidence=found.evidence,
    )


@dataclass(kw_only=True)
class _Seen:
    right: float
    nothing: float
    wrong: float
    evidence: tuple[Evidence, ...]
    problems: list[Problem] = field(default_factory=list)


def _same(outputs: Tensor) -> Tensor:
    return outputs


def _ratio(value: float, of: float) -> float:
    return value / of if of else (1.0 if value == of else math.inf)


# ---------------------------------------------------------------------------------- what the network ends in


def _ending(bench: Bench, setup: Setup) -> tuple[list[Problem], bool]:
    """Judge the range of what new networks put out, and tell whether these are log-probabilities."""
    _, whole = bench.new_outputs()
    outputs = (whole - setup.model.target_mean) / setup.model.target_std
    least, most = float(outputs.min()), float(outputs.max())
    if not bench.classifies:
        words = _squashed_by(outputs)
        if words is None:
            return [], False
        text = f"the network gives {least:.3g} to {most:.3g} and never less than 0, as after {words}"
        return [(_FAIL, f"{text}: no target under the mean can be reached", "end in a linear layer")], False
    sums = outputs.exp().sum(dim=2)
    if most <= 1e-6 and bool(((sums - 1).abs() < 1e-3).all()):
        if not setup.standard_loss:
            return [], True
        text = "the network gives log-probabilities, which cross-entropy normalises again"
        return [(_WARN, text, "leave out the log-softmax: it does no harm, and no good")], True
    if least >= -1e-6 and bool(((outputs.sum(dim=2) - 1).abs() < 1e-3).all()):
        text = "the network gives probabilities, as after a softmax, and the loss is given them as logits"
        return [(_FAIL, text, "leave out the softmax at the network's end")], False
    words = _squashed_by(outputs)
    if words is None:
        return [], False
    return [(_FAIL, f"no output of the network is negative, as after {words}", "end in a linear layer")], False


def _squashed_by(outputs: Tensor) -> str | None:
    """Return what the outputs of several networks look like; a bias can make them positive, but neither 0 nor < 1."""
    if float(outputs.min()) < -1e-6 or float(outputs.std(dim=1).max()) == 0:
        return None
    if bool((outputs.abs() < 1e-6).any()):
        return "a ReLU"
    return "a sigmoid" if float(outputs.max()) <= 1 else None


# ---------------------------------------------------------------------------------- made-up outputs


def _repetition(ratio: float) -> list[Problem]:
    if ratio > DOUBLED or not math.isfinite(ratio):
        text = f"the loss of a batch taken twice is {ratio:.3g} times as large: a sum over examples, not a mean"
        return [(_FAIL, text, "use reduction=mean, else the learning rate depends on the batch size")]
    if abs(ratio - 1) > MIXED:
        text = f"the loss of a batch taken twice is {ratio:.3g} times that of the batch"
        return [(_WARN, text, "see whether examples of one batch are meant to share a loss")]
    return []


def _of_classes(bench: Bench, probe: _Probe) -> _Seen:
    """Look at logits that favour the right class, and others, by growing margins."""
    targets, number = probe.batch[1], bench.examples.num_outputs
    right = torch.nn.functional.one_hot(targets, number).float()
    wrong = torch.nn.functional.one_hot((targets + 1) % number, number).float()
    rising, falling = ([probe(m * one) for m in MARGINS] for one in (wrong, right))
    nothing, at = falling[0], MARGINS.index(WRONG)
    gradients = [probe.gradient(m * wrong) for m in (NEAR, WRONG, WRONG)]
    problems = _order(falling, rising, at, gradients, "logits")
    bottom = min(probe(300 * right), probe(300 * right - 300))
    if bottom < -10 * max(1.0, abs(nothing)):
        problems.append((_FAIL, f"the loss has no lower bound: {bottom:.3g} for logits of 300", LOGITS))
    elif rising[-1] > falling[-1] > SQUASHED * nothing > 0 and abs(rising[-1] - rising[-2]) < 1e-2 * nothing:
        text = f"the loss goes from {falling[-1]:.3g} to {rising[-1]:.3g} only: logits are squashed before it"
        problems.append((_FAIL, text, LOGITS))
    moved = abs(probe(right + SHIFT) - probe(right))
    if moved > SHIFTED * max(1.0, abs(nothing)):
        text = f"adding {SHIFT:g} to all logits changes the loss by {moved:.3g}"
        problems.append((_WARN, text, f"{LOGITS}; predictions are the softmax of the outputs"))
    extreme = probe.gradient(HUGE * wrong)
    if not (math.isfinite(probe(HUGE * wrong)) and bool(torch.isfinite(extreme).all())):
        text = f"the loss or its gradient is not finite for logits of {HUGE:g}"
        problems.append((_WARN, text, "use the stable form: cross_entropy of logits, log_softmax, logsigmoid"))
    matrix, mixed = _by_class(probe, number)
    problems += mixed
    curves = _curves(falling, rising, "margin of one logit over the others", "right class", "another class")
    return _Seen(right=min(falling), nothing=nothing, wrong=rising[at], evidence=(curves, matrix), problems=problems)


def _order(falling: list[float], rising: list[float], at: int, gradients: list[Tensor], what: str) -> list[Problem]:
    """Judge the losses of right and of wrong predictions, and the gradients near right ones, off, and far off."""
    nothing = falling[0]
    near, off, far = gradients
    if not np.isfinite([*falling, *rising]).all() or not bool(torch.isfinite(far).all()):
        text = f"the loss or its gradient is not finite at {what} of {WRONG:g} to {MARGINS[-1]:g}"
        return [(_FAIL, text, "use the stable form: log_softmax, logsigmoid, a softplus or a clamped variance")]
    problems: list[Problem] = []
    if not min(falling) < nothing:
        text = f"right predictions cost {min(falling):.3g}, no less than knowing nothing, {nothing:.3g}"
        problems.append((_FAIL, text, "see which index, sign or shape the loss expects"))
    elif nothing > 0 and min(falling) > BEST * nothing:
        text = f"right predictions cost {min(falling):.3g}, hardly less than knowing nothing, {nothing:.3g}"
        problems.append((_WARN, text, "see which index, sign or shape the loss expects"))
    if not bool(off.any()):
        how = "badly wrong" if bool(near.any()) else "wrong"
        text = f"the loss has no gradient at all for predictions that are {how} ({rising[at]:.3g})"
        problems.append((_WARN if bool(near.any()) else _FAIL, text, "clip gradients, not the loss"))
    elif not rising[at] > nothing:
        text = f"wrong predictions cost {rising[at]:.3g}, no more than knowing nothing, {nothing:.3g}"
        problems.append((_FAIL, text, "see which index, sign or shape the loss expects"))
    return problems


def _by_class(probe: _Probe, number: int) -> tuple[Matrix, list[Problem]]:
    """Return the loss of predicting each class for examples of each class, and classes for which another costs less."""
    chosen = np.unique(np.linspace(0, number - 1, min(number, CLASSES)).astype(int))
    targets = probe.batch[1]
    values = np.zeros((len(chosen), len(chosen)))
    for i, c in enumerate(chosen):
        for j, predicted in enumerate(chosen):
            outputs = torch.zeros(len(targets), number, device=targets.device)
            outputs[:, predicted] = 3.0
            values[i, j] = probe(outputs, targets=torch.full_like(targets, int(c)))
    matrix = Matrix(name="classes", title="loss by class", x="predicted class", y="class", values=values)
    lowest = values.argmin(axis=1)
    bad = np.flatnonzero(lowest != np.arange(len(chosen)))
    if not len(bad):
        return matrix, []
    i = int(bad[0])
    text = f"for {len(bad)} of {len(chosen)} classes another costs less, class {chosen[lowest[i]]} for {chosen[i]}, say"
    return matrix, [(_FAIL, text, "see whether the loss takes an index or one-hot targets, and from 0 or 1")]


def _of_values(bench: Bench, probe: _Probe) -> _Seen:
    """Look at values that are the targets, permuted targets, and values ever further off."""
    targets, std = probe.batch[1].float(), float(probe.setup.model.target_std)
    signs = torch.as_tensor(bench.generator("loss").choice([-1.0, 1.0], len(targets)), dtype=targets.dtype)
    away = signs.to(targets.device) * std
    rising = [probe((targets + m * away).unsqueeze(1)) for m in MARGINS]
    right, nothing = rising[0], probe(torch.full_like(targets, float(targets.mean())).unsqueeze(1))
    order = torch.as_tensor(bench.generator("loss", "order").permutation(len(targets))).to(targets.device)
    permuted = probe(targets[order].unsqueeze(1))
    at = MARGINS.index(FAR)
    gradients = [probe.gradient((targets + m * away).unsqueeze(1)) for m in (NEAR, OUTLYING, FAR)]
    problems = _order([nothing, right], rising, at, gradients, "values")
    if not permuted > right + 1e-6 * abs(right):
        text = f"values that are the targets in another order cost {permuted:.3g}, the right ones {right:.3g}"
        problems.append((_FAIL, text, "do not let (N, 1) meet (N,): the loss is then that of all pairs"))
    curves = _curves([right] * len(MARGINS), rising, "standard deviations off the target", "right values", "others")
    return _Seen(right=right, nothing=nothing, wrong=rising[at], evidence=(curves,), problems=problems)


def _curves(falling: list[float], rising: list[float], x: str, right: str, wrong: str) -> Curves:
    lines = {name: np.array([MARGINS, values]) for name, values in ((right, falling), (wrong, rising))}
    return Curves(name="loss", title="the loss of made-up outputs", x=x, y="loss", lines=lines)


# ---------------------------------------------------------------------------------- composite losses


_ADDITIONS = ("add", "__add__", "__radd__", "__iadd__", "add_")


class _Sums(TorchFunctionMode):
    """Notes which single numbers are added up to others."""

    def __init__(self) -> None:
        super().__init__()
        self.addends: dict[int, list[Tensor]] = {}
        self._kept: list[Any] = []  # else an id may be given twice

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        # what is added to in place is another value afterwards
        before = [a.clone() if name == "__iadd__" and isinstance(a, Tensor) else a for a in args]
        result = func(*args, **(kwargs or {}))
        if name in _ADDITIONS and isinstance(result, Tensor) and result.ndim == 0:
            self._kept += [result, *args]
            pairs = [(old, a) for old, a in zip(before, args, strict=True) if isinstance(a, Tensor)]
            self.addends[id(result)] = [part for old, a in pairs for part in self._of(old, a)]
        return result

    def _of(self, part: Tensor, original: object) -> list[Tensor]:
        return self.addends.get(id(original), [part])


@dataclass(frozen=True, kw_only=True)
class _Addend:
    """A number that a loss is the sum of, with the norm of its gradient with regard to the outputs."""

    value: float
    norm: float
    about_targets: bool
    """A penalty is not, and may be small."""


def _parts(setup: Setup, batch: Batch, outputs: Tensor) -> list[_Addend]:
    """Return the numbers that the loss is the sum of; none where it is no sum."""
    leaf = outputs.clone().requires_grad_(True)
    parts, others = (_addends(setup, leaf, targets, batch[2]) for targets in (batch[1], batch[1].roll(1)))
    found = []
    for part, other in zip(parts, others, strict=False) if len(parts) > 1 else ():
        if part.requires_grad:
            (gradient,) = torch.autograd.grad(part, leaf, retain_graph=True, allow_unused=True)
            norm = 0.0 if gradient is None else float(gradient.norm())
            value, moved = float(part.detach()), float(other.detach())
            found.append(_Addend(value=value, norm=norm, about_targets=abs(value - moved) > 1e-6 * abs(value)))
    return found


def _addends(setup: Setup, outputs: Tensor, targets: Tensor, indices: Tensor) -> list[Tensor]:
    with _Sums() as sums:
        value = setup.loss(outputs, targets, indices)
    addends: list[Tensor] = sums.addends.get(id(value), [])
    return addends


def _scales(probes: list[list[_Addend]]) -> list[Problem]:
    """Judge parts whose gradients differ everywhere; at a new network's outputs alone, a penalty on them is tiny."""
    ratios = []
    for parts in probes:
        strongest = max(parts, key=lambda part: part.norm, default=None)
        learns = strongest is not None and strongest.about_targets
        norms = [part.norm for part in parts if part.norm > 0 and (part.about_targets or not learns)]
        ratios.append(max(norms) / min(norms) if len(norms) > 1 else 1.0)
    if min(ratios) <= SCALES:
        return []
    values = " and ".join(f"{part.value:.3g}" for part in probes[0])
    text = f"the loss is a sum of {values}, whose gradients differ by a factor of {min(ratios):.3g}"
    return [(_WARN, text, "bring the parts of the loss to one scale, else one of them decides alone")]


CHECK = Check(row="R20", title="the loss fits its input", look=look)
