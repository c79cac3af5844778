"""torch's optimisers for a stack of networks: the same updates, each network with settings and a course of its own.

All weights of network i are row i of one matrix (M, P), so that an update is a few operations, whatever the number of
layers. State lies in matrices of the same shape; what torch's own optimiser of a network holds are windows into them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from search.train.data.arrays import Array
from search.train.loop import Training

Values = Mapping[str, Tensor]
"""Settings by name, (M, 1) or (M, P)."""

_OFF: dict[type[torch.optim.Optimizer], dict[str, object]] = {
    torch.optim.SGD: {"dampening": 0, "maximize": False, "differentiable": False},
    torch.optim.Adam: {
        "amsgrad": False,
        "maximize": False,
        "capturable": False,
        "differentiable": False,
        "decoupled_weight_decay": False,
    },
    torch.optim.AdamW: {"amsgrad": False, "maximize": False, "capturable": False, "differentiable": False},
    torch.optim.RMSprop: {"centered": False, "maximize": False, "capturable": False, "differentiable": False},
}
"""Options that an optimiser of a stack does not know, and their values that mean: off."""


def unsupported(optimizer: torch.optim.Optimizer) -> str | None:
    """Return why networks with this optimiser cannot be stacked; None where they can."""
    off = _OFF.get(type(optimizer))
    if off is None:
        return f"its optimiser is {type(optimizer).__name__}"
    for group in optimizer.param_groups:
        for option, value in off.items():
            if group.get(option, value) != value:
                return f"its optimiser has {option}={group[option]}"
        if any(isinstance(group[name], Tensor) for name in ("lr", "weight_decay")):
            return "its optimiser's settings are tensors"
    if len({group["lr"] for group in optimizer.param_groups}) > 1:
        return "its weights have several learning rates"
    return None


def _sgd(weights: Tensor, gradients: Tensor, state: Values, v: Values) -> None:
    if "weight_decay" in v:
        gradients = gradients + weights * v["weight_decay"]
    if "momentum" in v:
        buffer = _moved(state["momentum_buffer"], gradients, v)
        gradients = torch.where(v["nesterov"] > 0, torch.addcmul(gradients, buffer, v["momentum"]), buffer)
    weights.addcmul_(gradients, v["lr"], value=-1)


def _moved(buffer: Tensor, added: Tensor, v: Values) -> Tensor:
    """Return momentum with something added to it, and keep it but where it is 0: there torch's own leave it alone."""
    moved = (buffer * v["momentum"]).add_(added)
    buffer.copy_(torch.where(v["momentum"] > 0, moved, buffer) if "pauses" in v else moved)
    return moved


def _adam(weights: Tensor, gradients: Tensor, state: Values, v: Values) -> None:
    if "shrink" in v:  # the weights themselves decay (Loshchilov and Hutter 2019)
        weights.mul_(v["shrink"])
    elif "decay" in v:
        weights.mul_(1 - v["lr"] * v["decay"])
    elif "weight_decay" in v:
        gradients = gradients + weights * v["weight_decay"]
    mean, square = state["exp_avg"], state["exp_avg_sq"]
    mean.lerp_(gradients, v["new"])
    square.mul_(v["beta2"]).addcmul_(gradients * v["new2"], gradients)
    denominator = square.sqrt().div_(v["root"]).add_(v["eps"])
    weights.addcdiv_(mean * v["size"], denominator, value=-1)


def _rmsprop(weights: Tensor, gradients: Tensor, state: Values, v: Values) -> None:
    if "weight_decay" in v:
        gradients = gradients + weights * v["weight_decay"]
    square = state["square_avg"]
    square.mul_(v["alpha"]).addcmul_(gradients * v["new"], gradients)
    step = gradients / square.sqrt().add_(v["eps"])
    if "momentum" in v:
        step = _moved(state["momentum_buffer"], step, v)
    weights.addcmul_(step, v["lr"], value=-1)


_UPDATES: dict[type[torch.optim.Optimizer], Callable[[Tensor, Tensor, Values, Values], None]] = {
    torch.optim.SGD: _sgd,
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adam,
    torch.optim.RMSprop: _rmsprop,
}
KINDS = tuple(_UPDATES)
STATE: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.SGD: ("momentum_buffer",),
    torch.optim.Adam: ("exp_avg", "exp_avg_sq"),
    torch.optim.AdamW: ("exp_avg", "exp_avg_sq"),
    torch.optim.RMSprop: ("square_avg", "momentum_buffer"),
}


@dataclass
class Part:
    """The networks `rows` of a stack, which have one kind of optimiser; all that has a row for each is (m, ...)."""

    members: Sequence[Training]
    rows: slice
    sizes: Sequence[int]
    """Of each parameter, in the order of the columns."""
    state: dict[str, Tensor]

    def __post_init__(self) -> None:
        self._kind = type(self.members[0].optimizer)
        self._fixed: dict[str, Tensor] = {}
        self._moving: dict[str, Tensor] = {}

    def begin(self, like: Tensor) -> None:
        """Have an epoch's settings ready, of the type and on the device of weights `like`."""
        fixed, moving = self._settings()
        self._fixed = {name: torch.as_tensor(value).to(like) for name, value in fixed.items()}
        # One transfer for all: (steps, settings, m, 1).
        table = torch.as_tensor(np.stack(list(moving.values()), axis=1)).unsqueeze(-1).to(like)
        self._moving = {name: table[:, i] for i, name in enumerate(moving)}

    def update(self, step: int, weights: Tensor, gradients: Tensor) -> None:
        """Take a step of the epoch, counted from 0, with the gradients of all weights of the stack, (M, P) both."""
        values = {**self._fixed, **{name: column[step] for name, column in self._moving.items()}}
        _UPDATES[self._kind](weights[self.rows], gradients[self.rows], self.state, values)

    def _settings(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return what stays as it is over the epoch, (m, 1) or (m, P), and what has a course, (steps, m)."""
        lr, momentum = self._courses()
        decay = self._by_weight("weight_decay")
        fixed: dict[str, Array] = {}
        if self._kind is torch.optim.SGD:
            moving = {"lr": lr}
            if momentum.any():
                moving["momentum"] = momentum
                fixed["nesterov"] = self._by_weight("nesterov")
        elif self._kind is torch.optim.RMSprop:
            moving = {"lr": lr}
            fixed = {name: self._by_weight(name) for name in ("alpha", "eps")}
            fixed["new"] = 1 - fixed["alpha"]
            if momentum.any():
                moving["momentum"] = momentum
        else:
            second = np.array([m.optimizer.param_groups[0]["betas"][1] for m in self.members])
            done = np.array([m.step for m in self.members]) + np.arange(1, len(lr) + 1)[:, None]
            moving = {"new": 1 - momentum, "size": lr / (1 - momentum**done), "root": np.sqrt(1 - second**done)}
            fixed = {"eps": self._by_weight("eps"), "beta2": second[:, None], "new2": 1 - second[:, None]}
        if "momentum" in moving and not momentum.all():
            fixed["pauses"] = np.ones((1, 1))
        if decay.any() and self._kind is torch.optim.AdamW and decay.shape[1] == 1:
            moving["shrink"] = 1 - lr * decay[:, 0]
        elif decay.any() and self._kind is torch.optim.AdamW:
            moving["lr"], fixed["decay"] = lr, decay
        elif decay.any():
            fixed["weight_decay"] = decay
        return fixed, moving

    def _courses(self) -> tuple[Array, Array]:
        """Return the learning rates and the momenta, or first betas, of the epoch's steps, (steps, m) both."""
        return tuple(np.stack(courses, axis=1) for courses in zip(*(m.courses() for m in self.members), strict=True))  # type: ignore[return-value]

    def _by_weight(self, name: str) -> Array:
        """Return a setting, (m, 1), or where a network's groups of weights differ in it (m, P)."""
        found = [[group[name] for group in m.optimizer.param_groups] for m in self.members]
        if all(len(set(values)) == 1 for values in found):
            return np.array([values[:1] for values in found], dtype=np.float64)
        return np.stack([self._spread(m, name) for m in self.members])

    def _spread(self, member: Training, name: str) -> Array:
        of = {id(p): float(group[name]) for group in member.optimizer.param_groups for p in group["params"]}
        return np.repeat([of[id(p)] for p in member.model.parameters()], self.sizes)
