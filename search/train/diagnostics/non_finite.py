"""Where NaN or infinity first appears in a network, and what has likely caused it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from search.train.diagnostics.layers import compiled, hooks, shown
from search.train.estimator import Estimator

_HUGE = 1e30
"""Products of such numbers overflow float32; what stands for infinity in cleaned inputs is larger."""
_LARGE = 1e15
"""Outputs whose loss may overflow float32."""
TOO_HIGH = "the learning rate is too high, or a gradient exploded"


@dataclass
class _First:
    """The first module whose outputs are not finite, with what it was given."""

    name: str
    module: nn.Module
    given: list[Tensor]
    own: bool
    """Whether it has no parts, so that nothing but itself can be the cause."""


def first_non_finite(model: nn.Module, inputs: Tensor, augmented: Tensor | None = None, *, loss: bool = True) -> str:
    """Say in which module of the network outputs first are not finite for a batch of inputs (N, *shape), and why.

    The answer is the rest of a sentence. One forward pass is made in the model's present mode, without gradients and
    with the random numbers put back; call it under the autocast of the training. `augmented` are the inputs as an
    augmentation of the network, an Estimator, made them; without `loss` predictions came out not finite.
    """
    if torch.isinf(inputs).any():
        return f"the inputs of {_examples(torch.isinf(inputs))} hold infinities: clean the data"
    if augmented is not None and not _finite(augmented):
        return f"the augmentation made {_examples(~torch.isfinite(augmented))} so: a log or root in it, a division by 0"
    given = inputs
    found: list[_First] = []
    largest = [0.0]
    handles = [_hook(name, module, found, largest) for name, module in model.named_modules() if hooks(module)]
    eager = torch.compiler.set_stance("force_eager") if compiled(model) else contextlib.nullcontext()
    devices = [given.device] if given.is_cuda else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices), eager:
            if augmented is None:
                model(given)
            else:
                assert isinstance(model, Estimator)
                model.judged(augmented)
    except Exception as error:  # noqa: BLE001 - the user's network may raise anything, and NaN is what is to be told
        return f"a forward pass to find it raised {type(error).__name__}"
    finally:
        for handle in handles:
            handle.remove()
    return _told(found[0]) if found else _without(model, largest[0], loss)


def _hook(name: str, module: nn.Module, found: list[_First], largest: list[float]) -> Any:
    def hook(called: nn.Module, given: Any, keywords: Any, made: Any) -> None:
        outputs = _tensors(made)
        if found or not outputs:
            return
        if not all(_finite(output) for output in outputs):
            found.append(_First(shown(name), called, _tensors((given, keywords)), not any(called.children())))
        else:
            largest[0] = max(float(output.abs().max()) for output in outputs)

    return module.register_forward_hook(hook, with_kwargs=True)


def _told(first: _First) -> str:
    where = f"first in {first.name} ({type(first.module).__name__})"
    broken = _broken(first.module)
    if broken:
        return f"{where}, whose {broken} became so in an earlier update: {TOO_HIGH}"
    if not all(_finite(given) for given in first.given):
        return f"{where}, whose inputs are not: it arises in your code before it, a log or root of 0, a division by 0"
    size = max((float(given.abs().max()) for given in first.given), default=0.0)
    if not first.own:
        return f"{where}, in its own code: its parts give finite outputs; a log or root of 0, a division by 0"
    if size > _HUGE:
        return f"{where}, which is given numbers of up to {size:.1g}: the data hold such, or activations grew so large"
    weight = max((float(p.detach().abs().max()) for p in first.module.parameters() if p.numel()), default=0.0)
    finite = f"whose weights are finite (up to {weight:.2g})" if weight else "which has no weights"
    return f"{where}, {finite}: its inputs of up to {size:.2g} make it overflow; {TOO_HIGH}"


def _without(model: nn.Module, largest: float, loss: bool) -> str:
    broken = _broken(model)
    if broken:
        return f"no output of the network is, but its {broken}: {TOO_HIGH}"
    if not loss:
        return (
            f"a second pass is finite (up to {largest:.2g}): they hang on chance, or on the other examples of a batch"
        )
    if largest > _LARGE:
        return f"the network's outputs are so large (up to {largest:.2g}) that the loss overflows: {TOO_HIGH}"
    return (
        f"the network's outputs are finite (up to {largest:.2g}), so it is the loss: a log of 0, a division by 0, "
        "or targets that are not finite"
    )


def _broken(module: nn.Module) -> str:
    """Return the first parameter that is not finite, with what it holds; an empty word where all are."""
    for name, parameter in module.named_parameters():
        values = parameter.detach()
        if not _finite(values):
            share = float((~torch.isfinite(values)).float().mean())
            what = "NaN" if torch.isnan(values).any() else "infinity"
            return f"{shown(name)} ({what} in {share:.0%})"
    return ""


def _tensors(values: Any) -> list[Tensor]:
    return [
        leaf.detach()
        for leaf in ([values] if isinstance(values, Tensor) else tree_leaves(values))
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.numel()
    ]


def _finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())


def _examples(wrong: Tensor) -> str:
    number = int(wrong.flatten(1).any(dim=1).sum())
    return f"{number} example{'s' if number != 1 else ''} of the batch"
