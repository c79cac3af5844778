"""Which trainings can be stacked: what they must have in common, and what none of them may have."""

from __future__ import annotations

import types
from collections.abc import Hashable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from search.train.augment import ours
from search.train.batches import ResidentBatches
from search.train.dropout import Counted
from search.train.estimator import Estimator
from search.train.fused.optimizers import unsupported
from search.train.loop import Training
from search.train.losses import HardLoss, OwnLoss

_FREE = {*vars(nn.Module()), "_flat_weights", "_flat_weight_refs"}
"""Attributes that PyTorch's own machinery has: the mode, weights by name, hooks, windows into a recurrent's weights."""
_OF_DROPOUT = {"p", "inplace", "keyed", "source"}
"""Attributes in which the members of a stack may differ: the rate of dropout and what belongs to it."""
_IN_WORDS = {
    "statistics": "the statistics of their training inputs",
    "parameter": "the shapes of their weights",
    "buffer": "the shapes of their buffers",
    "examples": "their training examples",
    "batches": "their batches",
}
"""What the parts of a form are of."""
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, type, types.FunctionType)


def why_alone(training: Training) -> str | None:
    """Return why a training cannot be one of a stack; None where nothing is known against it."""
    model = training.model
    if not isinstance(model, Estimator):
        return "its model is of another kind"
    if training.plan.compile:
        return "trainer.compile=true"
    if training.rules.scaler is not None:
        return "trainer.precision=fp16 scales each loss by itself"
    if training.rules.autocast is not None and any(isinstance(m, _ConvNd) for m in model.modules()):
        return "trainer.precision=bf16 does not reach convolutions in a stack"  # torch's rules for them go around it
    if not isinstance(training.batches, ResidentBatches):
        return "its data does not lie on the device"
    if not isinstance(training.loss, HardLoss | OwnLoss):
        return "it has a teacher"
    if training.rules.augment is not None and not ours(training.rules.augment):
        return "its augmentation is one of your own"
    return _of_weights(model.network) or _of_hooks(model.network) or unsupported(training.optimizer)


def _of_weights(network: nn.Module) -> str | None:
    """Return why a network's weights cannot lie beside others."""
    if any(not p.requires_grad for p in network.parameters()):
        return "some of its weights are frozen"
    if len(list(network.named_parameters(remove_duplicate=False))) != len(list(network.parameters())):
        return "some of its layers share weights"
    if len({(p.dtype, p.device) for p in network.parameters()}) != 1:
        return "its weights are of several types"
    return None


def _of_hooks(network: nn.Module) -> str | None:
    """Return why a network's gradients would not be what they are alone: in a stack they are never its own tensors."""
    hooked = [value for p in network.parameters() for value in (p._backward_hooks, p._post_accumulate_grad_hooks)]
    hooked += [value for m in network.modules() for value in (m._backward_hooks, m._backward_pre_hooks)]
    return "it has hooks on gradients" if any(hooked) else None


def form_of(training: Training) -> Hashable:
    """Return what must be the same for all of a stack: the network but for its weights, inputs, batches and loss."""
    model, plan = training.model, training.plan
    assert isinstance(model, Estimator)
    statistics = [(name, _bytes(value)) for name, value in model.named_buffers() if not name.startswith("network.")]
    weights = [(name, tuple(p.shape), p.dtype) for name, p in model.network.named_parameters()]
    buffers = [(name, tuple(b.shape), b.dtype) for name, b in model.network.named_buffers()]
    return (
        *(("statistics", *each) for each in statistics if each[0] != "target_mean"),
        ("modules", traits_of(model)),
        *(("parameter", *each) for each in weights),
        *(("buffer", *each) for each in buffers),
        ("batches", id(training.batches), training.steps_per_epoch, plan.batch_size, plan.accumulate, plan.parts),
        ("drawn", plan.drawn),
        ("examples", len(training.dataset.split.train), _bytes(torch.as_tensor(training.dataset.split.validation))),
        ("precision", training.rules.autocast),
        ("loss", training.loss.form if isinstance(training.loss, HardLoss | OwnLoss) else id(training.loss)),
    )


def difference(first: Hashable, second: Hashable) -> str:
    """Return in words what two forms differ in."""
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    for one, other in zip(first, second, strict=False):
        if one != other and one[0] == other[0] == "modules":
            return _other_trait(one[1], other[1])
        if one != other:
            return _IN_WORDS.get(one[0], str(one[0]))
    return _IN_WORDS["parameter"]


def _other_trait(first: Any, second: Any) -> str:
    """Return the attribute in which the modules of two networks differ, e.g. `body.3.slope`."""
    for (name, *traits), (_, *others) in zip(first, second, strict=False):
        for one, other in zip(traits, others, strict=False):
            if one != other:
                found = one[0] if isinstance(one, tuple) else "class"
                return f"the attribute {name}.{found}"
    return "their modules"


def traits_of(network: nn.Module) -> Hashable:
    """Return classes and settings of a network's modules, whatever their weights and buffers are."""
    return tuple((name, *_traits(module)) for name, module in network.named_modules())


def _traits(module: nn.Module) -> Iterator[Hashable]:
    """Yield class and settings of a module; one that cannot be compared is like no other."""
    yield f"{type(module).__module__}.{type(module).__qualname__}"
    free = _FREE | _OF_DROPOUT if isinstance(module, Counted) else _FREE
    for name, value in sorted(vars(module).items()):
        if name not in free:
            yield name, _comparable(value)


def _comparable(value: Any) -> Hashable:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, tuple | list):
        return tuple(map(_comparable, value))
    if isinstance(value, dict):
        return tuple((_comparable(k), _comparable(v)) for k, v in value.items())
    return id(value)


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().numpy().tobytes()
