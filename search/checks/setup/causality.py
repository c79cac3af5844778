"""R18, of series: a layer that calls itself causal sees nothing of later steps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from search.checks.evidence import Array, Matrix
from search.checks.setup.parts import FAIL, PASS, SKIP, WARN, Part, listed, precise
from search.train import steps
from search.train.estimator import Estimator

FLAGS = ("causal", "is_causal")
STEPS = 8
"""Steps from which it is differentiated, spread evenly over the series."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Called:
    """A module as it was called: its output, and the tensor that it got first."""

    name: str
    given: Tensor | None
    output: Tensor


def look(model: Estimator, inputs: Tensor) -> tuple[list[Part], list[Matrix]]:
    """Differentiate what flagged modules give at a step after the inputs (N, C, L) of all steps, in evaluation mode.

    A module is flagged by a true attribute `causal` or `is_causal`. Where its output has no steps, that of the last
    layer within it that has them stands for it.
    """
    flagged = [name for name, module in model.network.named_modules() if _is_flagged(module)]
    if not flagged or inputs.ndim != 3 or inputs.shape[2] < 2:
        return [], []
    length = inputs.shape[2]
    if len(inputs) == length:  # else examples could be taken for steps
        inputs = inputs[:-1]
    parts: list[Part] = []
    figures: list[Matrix] = []
    with precise():
        leaf, calls = _calls(model, inputs)
        for name in flagged:
            part, values = _part(name, calls, leaf, length)
            parts.append(part)
            if values is not None and len(figures) < 3:
                figures.append(_figure(name, len(figures), values))
    return parts, figures


def _is_flagged(module: nn.Module) -> bool:
    return any(isinstance(flag := getattr(module, name, False), bool | int) and bool(flag) for name in FLAGS)


def _calls(model: Estimator, inputs: Tensor) -> tuple[Tensor, list[_Called]]:
    """Return the inputs as a leaf, and the calls of the network's modules in the order in which they ended."""
    calls: list[_Called] = []
    handles = []
    for name, module in model.network.named_modules():

        def keep(_: nn.Module, given: tuple[object, ...], output: object, name: str = name) -> None:
            first = output[0] if isinstance(output, tuple | list) and output else output
            if isinstance(first, Tensor):
                tensor = given[0] if given and isinstance(given[0], Tensor) else None
                calls.append(_Called(name=name, given=tensor, output=first))

        handles.append(module.register_forward_hook(keep))
    leaf = inputs.to(model.mean.dtype, copy=True).requires_grad_()
    model.eval()
    try:
        steps.seed_everything(0)
        model(leaf)
    finally:
        for handle in handles:
            handle.remove()
    return leaf, calls


def _part(name: str, calls: list[_Called], leaf: Tensor, length: int) -> tuple[Part, Array | None]:
    """Return what was found of one flagged module, and how its outputs depend on the inputs' steps."""
    what = f"the future in {listed([name])}"
    called = _standing_for(name, calls, length)
    if called is None:
        words = f"{listed([name])} calls itself causal, but gives nothing for each step"
        return Part(what=what, verdict=SKIP, words=words), None
    depending = list(_depending(called, calls, leaf, length))
    if not depending:
        words = f"{listed([name])} calls itself causal, but cannot be differentiated"
        return Part(what=what, verdict=SKIP, words=words), None
    values, seen = depending[0]
    ahead = _ahead(values, seen)
    if ahead is None:
        words = f"{listed([name])}, which calls itself causal, depends on no later step"
        return Part(what=what, verdict=PASS, words=words), values
    itself = name == "" or _ahead(*depending[-1]) is not None
    words = (
        f"{listed([name])} calls itself causal, but at step {ahead[0]} of {length} it depends on step {ahead[1]}"
        + ("" if itself else ", through the layers before it")
    )
    advice = "mask the later steps, pad convolutions on the left alone, and normalise over no later step"
    return Part(what=what, verdict=FAIL if itself else WARN, words=words, advice=advice), values


def _standing_for(name: str, calls: list[_Called], length: int) -> _Called | None:
    """Return the module's last call, or that of the last layer within it, whose output has the steps."""
    inside = [c for c in calls if name == "" or c.name == name or c.name.startswith(f"{name}.")]
    within = [c for c in inside if _axes(c.output, length)]
    own = [c for c in within if c.name == name]
    return (own or within)[-1] if within else None


def _depending(called: _Called, calls: list[_Called], leaf: Tensor, length: int) -> Iterator[tuple[Array, Array]]:
    """Yield how an output depends on the steps of the network's inputs, and then of what the module itself is given.

    Of tokens, which have no gradient, what the first layer gives stands for the inputs.
    """
    if not called.output.requires_grad:
        return
    before = [call.output for call in calls[: calls.index(called)]]
    for sources in ([leaf, *before], [called.given]):
        usable = (s for s in sources if s is not None and s.requires_grad and _axes(s, length))
        found = (_least(called.output, source, length) for source in usable)
        first = next(((values, seen) for values, seen in found if values.any()), None)
        if first is not None:
            yield first


def _axes(tensor: Tensor, length: int) -> list[int]:
    """Return the dimensions that may be the steps: the last, the second, the first."""
    axes = dict.fromkeys((tensor.ndim - 1, 1, 0))
    return [axis for axis in axes if tensor.ndim > 1 and tensor.shape[axis] == length]


def _least(output: Tensor, given: Tensor, length: int) -> tuple[Array, Array]:
    """Return |d output_t / d given_s| (T, L) and the steps t (T,): of what may be the steps, that which leaks least."""
    seen = np.unique(np.linspace(0, length - 2, STEPS).astype(int))
    found = [_matrix(output, i, given, j, seen) for i, j in _pairs(output, given, length)]
    return min(found, key=lambda values: _share_ahead(values, seen)), seen


def _pairs(output: Tensor, given: Tensor, length: int) -> Iterator[tuple[int, int]]:
    return itertools.product(_axes(output, length), _axes(given, length))


def _matrix(output: Tensor, i: int, given: Tensor, j: int, seen: Array) -> Array:
    by_step = output.movedim(i, 0)
    weights = torch.randn(by_step.shape[1:], generator=torch.Generator().manual_seed(0)).to(output)
    rows = []
    for t in seen:
        (gradient,) = torch.autograd.grad((by_step[t] * weights).sum(), given, retain_graph=True, allow_unused=True)
        found = torch.zeros_like(given) if gradient is None else torch.nan_to_num(gradient)
        rows.append(found.movedim(j, 0).flatten(1).abs().amax(1))
    values: Array = torch.stack(rows).detach().cpu().numpy()
    return values


def _share_ahead(values: Array, seen: Array) -> float:
    return float(max(row[t + 1 :].max() for row, t in zip(values, seen, strict=True)))


def _ahead(values: Array, seen: Array) -> tuple[int, int] | None:
    """Return a step and the last later one that it depends on."""
    for row, t in zip(values, seen, strict=True):
        later = np.flatnonzero(row[t + 1 :])
        if len(later):
            return int(t), int(t + 1 + later[-1])
    return None


def _figure(name: str, number: int, values: Array) -> Matrix:
    return Matrix(
        name=f"steps{number or ''}",
        title=f"what {listed([name])} gives at a step, after the inputs of all steps",
        x="step of the input",
        y=f"step of the output, {len(values)} of them",
        values=values,
    )
