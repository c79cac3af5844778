"""R09: one batch exactly as the network receives it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from search.checks.bench import Bench, minibatches
from search.checks.check import Check, Found
from search.checks.data.remarks import Remark, failed, found_of, warned
from search.checks.data.vectors import given_names
from search.checks.evidence import Array, Evidence, Pictures, Sheet
from search.keyed import keyed_int
from search.train import steps
from search.train.augment import Mixed
from search.train.data.arrays import Examples
from search.train.setup import Setup

SHOWN = 32
_NORMALISING = (_NormBase, nn.LayerNorm, nn.GroupNorm)


def look(bench: Bench) -> Found:
    """Catch what the network is given of a trial's first batch, and what its first layer makes of it."""
    setup = bench.setup()
    inputs, targets, _ = next(minibatches(setup, 1))
    examples = bench.examples
    shape = (len(inputs), *setup.model.shape_of(tuple(examples.inputs.shape[1:])))
    names = [_named(examples, float(target)) for target in targets.tolist()]
    plain = setup.model.standardised(inputs)
    remarks = _remarks(plain, shape)
    augmented = setup.rules.augment is not None and not remarks
    given, first, mixed = received(setup, inputs, augment=augmented)
    if augmented:
        remarks = _remarks(given, shape, "look at what the augmentation does to inputs")
    title = "one batch as the network receives it" + (", augmented" if augmented else "")
    columns = given_names(examples, setup.model)
    evidence = [_shown(columns, given, names if mixed is None else _mixed(names, mixed), "batch", title)]
    if augmented:
        evidence.append(_shown(columns, plain, names, "plain", "the same batch without augmentation"))
    if first is not None and first.ndim == 2 and first.numel() == given.numel():  # flattened
        first = first.reshape(given.shape)
    changed = first is not None and first.shape == given.shape and not torch.equal(first, given)
    if first is not None and changed and not remarks:
        remarks += _of_first(first)
        evidence.append(_shown(columns, first, names, "first_layer", "the same batch as the first layer receives it"))
    array = given.double()
    fine = (
        f"a batch of {len(given)} examples {tuple(given.shape[1:])}, {str(given.dtype).removeprefix('torch.')}, with "
        f"mean {float(array.mean()):.3f} and standard deviation {float(array.std()):.3f}"
        + (", augmented" if augmented else "")
    )
    return found_of(
        remarks,
        f"{fine}; the network changes it before its first layer" if changed else fine,
        measured={"mean": float(array.mean()), "std": float(array.std()), "examples": len(given)},
        evidence=tuple(evidence),
    )


def received(setup: Setup, inputs: Tensor, *, augment: bool = False) -> tuple[Tensor, Tensor | None, Mixed | None]:
    """Return what the network is given for raw inputs, what its first layer with parameters is, and who was mixed.

    With `augment`, as in the first step of a trial of that setup. The second is None where no such layer is called with
    numbers. Layers that normalise whatever they get are passed over. The setup is not to be trained after it: buffers
    may have changed.
    """
    given: list[Tensor] = []
    firsts: list[Tensor] = []

    def catch_first(_: nn.Module, arguments: tuple[object, ...]) -> None:
        if not firsts and arguments and isinstance(arguments[0], Tensor) and arguments[0].is_floating_point():
            firsts.append(arguments[0].detach().clone())

    network = setup.model.network
    handles = [network.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0].detach().clone()))]
    for module in network.modules():
        is_layer = not any(True for _ in module.children()) and any(True for _ in module.parameters(recurse=False))
        if is_layer and not isinstance(module, _NORMALISING):
            handles.append(module.register_forward_pre_hook(catch_first))
    setup.model.train()
    mixed: Mixed | None = None
    steps.seed_everything(keyed_int(setup.seed, "epoch", 1))
    try:
        with torch.no_grad():
            standardised = setup.model.standardised(inputs)
            if augment and setup.rules.augment is not None:
                standardised, mixed = setup.rules.augment(standardised)
            setup.model.judged(standardised)
    finally:
        for handle in handles:
            handle.remove()
    return given[0], firsts[0] if firsts else None, mixed


def _remarks(given: Tensor, shape: tuple[int, ...], advice: str = "") -> list[Remark]:
    """Return what is wrong with a batch as the network is given it; `advice` is what to do in any case."""
    if tuple(given.shape) != shape:
        words = f"the network receives {tuple(given.shape)} instead of {shape}"
        return [failed(words, advice or "look at what comes before the network")]
    if not given.is_floating_point():
        return [failed(f"the network receives {given.dtype}", advice or "give it floating-point numbers")]
    strange = int((~torch.isfinite(given)).sum())
    if strange:
        words = f"{strange} of {given.numel()} values that the network receives are NaN or infinite"
        return [failed(words, advice or "remove these values from the data, see R02")]
    if _identical(given):
        words = f"all {len(given)} examples of a batch are identical as the network receives them"
        return [failed(words, advice or "look at how inputs are read: they carry nothing")]
    return []


def _of_first(first: Tensor) -> list[Remark]:
    """Return remarks on what the network did to its inputs itself; they may be its purpose, so none is a failure."""
    if not torch.isfinite(first).all():
        words = "the network makes NaN or infinities of its inputs before its first layer"
    elif _identical(first):
        words = f"the network makes all {len(first)} examples of a batch identical before its first layer"
    else:
        return []
    return [warned(words, "look at what the model does to inputs before its first layer")]


def _identical(batch: Tensor) -> bool:
    return len(batch) > 1 and bool((batch == batch[:1]).all())


def _named(examples: Examples, target: float) -> str:
    return examples.classes[int(target)] if examples.task == "classification" else f"{target:.4g}"


def _mixed(names: list[str], mixed: Mixed) -> list[str]:
    """Return what each example is of, and in which share."""
    share = float(mixed.share)
    others = (names[i] for i in mixed.partners.tolist())
    return [f"{share:.0%} {own}, {1 - share:.0%} {other}" for own, other in zip(names, others, strict=True)]


def _shown(columns: Sequence[str], batch: Tensor, captions: list[str], name: str, title: str) -> Evidence:
    array: Array = batch[:SHOWN].float().cpu().numpy()
    if batch.ndim - 1 in (2, 3):
        return Pictures(name=name, title=title, inputs=array, captions=tuple(captions[:SHOWN]))
    flat = np.round(array.reshape(len(array), -1).astype(np.float64), 4)
    rows = [(caption, *row) for caption, row in zip(captions, flat.tolist(), strict=False)]
    return Sheet(name=name, columns=("target", *columns), rows=rows)


CHECK = Check(row="R09", title="a batch as the network sees it", look=look)
