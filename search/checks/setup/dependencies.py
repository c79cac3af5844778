"""R18: by back-propagation, what an example's output depends on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from search.checks.bench import Bench
from search.checks.check import Check, Found, skipped
from search.checks.evidence import Array, Matrix
from search.checks.setup import causality
from search.checks.setup.parts import (
    FAIL,
    PASS,
    SKIP,
    WARN,
    Part,
    awaken,
    batch_norms,
    buffers_kept,
    found_of,
    listed,
    outputs_of,
    precise,
)
from search.train import steps
from search.train.estimator import Estimator

EXAMPLES = 8
ROUNDING = 1e-5
"""A change of an output over the largest output that counts; gradients have to be zero exactly."""
STRONG = 0.5
"""Dependence on another example over that on the own one. In training alone, statistics of N examples mix by 1/N."""

MOST = 1e6
"""That proportion, where the own dependence is nothing."""


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What outputs i depend on inputs j in one mode, each (N, N): by gradient, where there is one, and by change."""

    gradient: Array | None
    change: Array | None
    first: str = ""

    @property
    def is_known(self) -> bool:
        """Whether anything could be seen."""
        return self.gradient is not None or self.change is not None

    @property
    def shown(self) -> Array:
        """The matrix that says more."""
        if self.gradient is not None and (self.change is None or _others(self.gradient) or not _others(self.change)):
            return self.gradient
        assert self.change is not None
        return self.change

    @property
    def mixing(self) -> float:
        """Dependence on another example over that on the own, the largest; 0 where there is none."""
        matrices = [m for m in (self.gradient, self.change) if m is not None]
        return max((min(_others(m) / max(float(m.diagonal().max()), 1e-30), MOST) for m in matrices), default=0.0)


def look(bench: Bench) -> Found:
    """Differentiate the outputs after the inputs of all examples, in evaluation and in training mode."""
    batch = bench.batch(2 * EXAMPLES)[0]
    number = len(batch) // 2
    if number < 2:
        return skipped(f"{len(batch)} training examples are too few to see whether they are mixed")
    inputs, others = batch[:number], batch[number : 2 * number]
    model = bench.bare_setup().model
    awaken(model, bench.seed % 2**32)
    if not bool(torch.isfinite(outputs_of(model.eval(), inputs)).all()):
        return skipped("the outputs of a new network are not finite")
    norms = batch_norms(model)
    seen = {}
    for mode in ("evaluation", "training"):
        model.train(mode == "training")
        if mode == "training":
            for part in (m for norm in norms.values() for m in norm.modules()):
                part.training = False  # what batch norm mixes in training is known; the rest has to be seen
        seen[mode] = _seen(model, inputs, others)
    known = {mode: found for mode, found in seen.items() if found.is_known}
    later, figures = causality.look(model, inputs)
    return found_of(
        [*_parts(seen, number), *(_named(norms) if known else []), *later],
        passed=_passed(known, norms, later, number),
        measured={f"mixing_in_{mode}": found.mixing for mode, found in known.items()},
        evidence=(*(_figure(mode, found.shown) for mode, found in known.items()), *figures),
    )


def _passed(known: Mapping[str, _Seen], norms: Mapping[str, nn.Module], later: Sequence[Part], number: int) -> str:
    """Return what can be said of all parts where nothing is wrong."""
    by_change = [mode for mode, found in known.items() if found.gradient is None]
    return (
        f"each of {number} outputs depends on its own input alone, in {' and '.join(known)} mode"
        + (f" (seen by changing inputs in {' and '.join(by_change)} mode, for want of gradients)" if by_change else "")
        + (f"; but for batch norm, which mixes examples in training by design: {listed(list(norms))}" if norms else "")
        + "".join(f"; {part.words}" for part in later if part.verdict is PASS)
    )


def _seen(model: Estimator, inputs: Tensor, others: Tensor) -> _Seen:
    with precise(), buffers_kept(model):
        gradient, first = _gradient(model, inputs)
    return _Seen(gradient=gradient, change=_change(model, inputs, others), first=first)


def _gradient(model: Estimator, inputs: Tensor) -> tuple[Array | None, str]:
    """Return |d output_i / d input_j| (N, N), the largest of an input's, and the first layer that mixes examples."""
    leaf = inputs.to(model.mean.dtype, copy=True).requires_grad_()
    steps.seed_everything(0)
    try:
        with _watched(model.network) as called:
            outputs = model(leaf)
        if not outputs.requires_grad:
            return None, ""
        values = torch.stack([_row(outputs, leaf, i) for i in range(len(leaf))]).cpu().numpy()
        first = next((name for name, given in called if _others_of(given, leaf)), "") if _others(values) else ""
    except RuntimeError:  # a function of the user's without a derivative
        return None, ""
    return (values, first) if values.any() else (None, "")


def _row(outputs: Tensor, leaf: Tensor, i: int) -> Tensor:
    """Return |d outputs_i / d leaf_j| (N,); NaN is 0 times infinity, and no dependence."""
    weights = torch.randn(outputs[i].shape, generator=torch.Generator().manual_seed(0)).to(outputs)
    (gradient,) = torch.autograd.grad((outputs[i] * weights).sum(), leaf, retain_graph=True, allow_unused=True)
    found = torch.zeros_like(leaf) if gradient is None else torch.nan_to_num(gradient)
    return found.flatten(1).abs().amax(1)


def _others_of(given: Tensor, leaf: Tensor) -> bool:
    """Tell whether a layer's first or last row depends on other examples."""
    if not given.requires_grad or given.ndim < 2 or len(given) != len(leaf):
        return False
    last = len(leaf) - 1
    return bool(_row(given, leaf, 0)[1:].any()) or bool(_row(given, leaf, last)[:last].any())


@contextlib.contextmanager
def _watched(network: nn.Module) -> Iterator[list[tuple[str, Tensor]]]:
    """Collect what layers without parts give, in the order in which they are called."""
    called: list[tuple[str, Tensor]] = []
    handles = []
    for name, module in network.named_modules():

        def keep(_: nn.Module, __: object, output: object, name: str = name) -> None:
            first = output[0] if isinstance(output, tuple | list) and output else output
            if isinstance(first, Tensor):
                called.append((name, first))

        if not any(True for _ in module.children()):
            handles.append(module.register_forward_hook(keep))
    try:
        yield called
    finally:
        for handle in handles:
            handle.remove()


def _change(model: Estimator, inputs: Tensor, others: Tensor) -> Array | None:
    """Return by how much outputs i change with input j (N, N); nothing where they are not the same twice."""
    before = outputs_of(model, inputs)
    largest = float(before.abs().max())
    if float((outputs_of(model, inputs) - before).abs().max()) > ROUNDING * largest:
        return None
    columns = []
    for j in range(len(inputs)):
        changed = inputs.clone()
        changed[j] = others[j]
        columns.append((outputs_of(model, changed) - before).abs().amax(1))
    change = torch.nan_to_num(torch.stack(columns, dim=1))
    values: Array = torch.where(change > ROUNDING * largest, change, torch.zeros_like(change)).cpu().numpy()
    return values


def _others(matrix: Array) -> float:
    """Return the largest value beside the diagonal."""
    return float(matrix[~np.eye(len(matrix), dtype=bool)].max())


def _parts(seen: Mapping[str, _Seen], number: int) -> list[Part]:
    parts = []
    for mode, matrices in seen.items():
        if not matrices.is_known:
            words = f"in {mode} mode there are neither gradients nor the same outputs twice"
            parts.append(Part(what=mode, verdict=SKIP, words=words))
        elif not matrices.mixing:
            words = f"in {mode} mode each of {number} outputs depends on its own input alone"
            parts.append(Part(what=mode, verdict=PASS, words=words))
        else:
            parts.append(_mixed(mode, matrices, number))
    return parts


def _mixed(mode: str, seen: _Seen, number: int) -> Part:
    pairs = int(np.count_nonzero(seen.shown[~np.eye(number, dtype=bool)]))
    where = f", first in what {listed([seen.first])} gives" if seen.first else ""
    most = f"{seen.mixing:.2g} times" if seen.mixing >= 1 else f"{100 * seen.mixing:.2g} % of"
    words = (
        f"in {mode} mode changing one example changes others' outputs, in {pairs} of {number * (number - 1)} pairs and "
        f"up to {most} its own effect{where}"
    )
    advice = "look for a view or reshape in place of a transpose, a mean or softmax over the batch, a wrong batch_first"
    fatal = mode == "evaluation" or seen.mixing > STRONG
    return Part(what=mode, verdict=FAIL if fatal else WARN, words=words, advice=advice)


def _named(norms: Mapping[str, nn.Module]) -> list[Part]:
    if not norms:
        return []
    words = f"batch norm mixes examples in training, as it is meant to ({listed(list(norms))})"
    return [Part(what="batch norm", verdict=PASS, words=words)]


def _figure(mode: str, values: Array) -> Matrix:
    return Matrix(
        name=mode,
        title=f"|d output / d input| in {mode} mode",
        x="input of example j",
        y="output of example i",
        values=values,
    )


CHECK = Check(row="R18", title="dependencies by back-propagation", look=look)
