"""Which modules of a network are looked at, which of their parameters, and what their outputs are like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

NEVER_NEGATIVE = (nn.ReLU, nn.ReLU6)
RECTIFIERS = (*NEVER_NEGATIVE, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish)
"""Activations whose units may be dead: 0, and without a gradient, for every input."""
BOUNDED = {
    nn.Tanh: (-1.0, 1.0),
    nn.Hardtanh: (-1.0, 1.0),
    nn.Softsign: (-1.0, 1.0),
    nn.Sigmoid: (0.0, 1.0),
    nn.Hardsigmoid: (0.0, 1.0),
}
"""The ranges of activations that have ends."""
OTHERS = (nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.Softplus, nn.LogSigmoid)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
ACTIVATIONS = (*RECTIFIERS, *BOUNDED, *OTHERS)
_FEATURES_LAST = (nn.Linear, nn.Bilinear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.MultiheadAttention, *RECURRENT)
TINY = 1e-7
"""What smooth rectifiers give in place of 0."""
NEAR_THE_END = 0.97
_PARAMETRIZED = ".parametrizations."


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A module that is looked at; `name` is that in the user's network, `parameters` are its own ones by name."""

    name: str
    module: nn.Module
    parameters: dict[str, nn.Parameter]

    @property
    def kind(self) -> str:
        """Return the class of the module, of a scripted one that it was scripted from."""
        name: str = getattr(self.module, "original_name", type(self.module).__name__)
        return name.removeprefix("Parametrized")

    @property
    def rectifies(self) -> bool:
        """Tell whether units may be dead in it."""
        return isinstance(self.module, RECTIFIERS) or _relu_of(self.module)

    @property
    def ends(self) -> tuple[float, float] | None:
        """Return the range of its outputs; None where it has no ends."""
        if isinstance(self.module, RECURRENT):
            return None if _relu_of(self.module) else (-1.0, 1.0)
        return next((ends for kind, ends in BOUNDED.items() if isinstance(self.module, kind)), None)

    @property
    def features_last(self) -> bool:
        """Tell whether features are the last dimension of its outputs, else they are the second."""
        return isinstance(self.module, _FEATURES_LAST)


def layers_of(model: nn.Module) -> list[Layer]:
    """Return the modules with parameters of their own and the activations, in the order of their definition."""
    owned: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        module, _, leaf = name.split(_PARAMETRIZED)[0].rpartition(".")
        if _PARAMETRIZED in name:  # the weight belongs to the module that computes it, not to its machinery
            module, leaf = name.split(_PARAMETRIZED)[0], name.split(_PARAMETRIZED)[1]
        owned.setdefault(module, {})[leaf] = parameter
    return [
        Layer(name=shown(name), module=module, parameters=owned.get(name, {}))
        for name, module in model.named_modules()
        if name in owned or isinstance(module, ACTIVATIONS)
    ]


def shown(name: str) -> str:
    """Return a module's name in the user's network, without what our own wrappers put before it."""
    for wrapper in ("network", "_orig_mod"):
        name = name.removeprefix(f"{wrapper}.") if name != wrapper else ""
    return name or "network"


def hooks(module: nn.Module) -> bool:
    """Tell whether a module takes hooks: scripted ones refuse them."""
    return not isinstance(module, torch.jit.ScriptModule)


def compiled(model: nn.Module) -> bool:
    """Tell whether a part is compiled: hooks would not be called, or the part be compiled anew."""
    return any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


def output_of(made: Any) -> Tensor | None:
    """Return the first tensor of numbers in what a module gave, detached; None where there is none."""
    if isinstance(made, nn.utils.rnn.PackedSequence):
        made = made.data
    for leaf in [made] if isinstance(made, Tensor) else tree_leaves(made):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.numel():
            found = leaf.detach()
            return found.float()
    return None


def alive(layer: Layer, output: Tensor, features_last: bool) -> Tensor:
    """Return which units, features or channels, are not 0 on the whole batch: bool (U,)."""
    unit = output.ndim - 1 if features_last else min(1, output.ndim - 1)
    others = tuple(d for d in range(output.ndim) if d != unit)
    sizes = output if isinstance(layer.module, NEVER_NEGATIVE) else output.abs()
    return (sizes.amax(others) if others else sizes).reshape(-1) > TINY  # a number alone is one unit


def saturated(output: Tensor, ends: tuple[float, float]) -> Tensor:
    """Return the share of outputs that lie at the ends of their range, a scalar."""
    middle, half = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2
    return ((output - middle).abs() > NEAR_THE_END * half).float().mean()


def _relu_of(module: nn.Module) -> bool:
    """Tell whether a recurrent module's units are rectified ones."""
    if not isinstance(module, nn.RNN | nn.RNNCell):
        return False
    return module.nonlinearity == "relu"
