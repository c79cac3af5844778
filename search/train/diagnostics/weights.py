"""Weights, their gradients and their change in one step, by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search.train.diagnostics.layers import Layer

_NORM, _BEFORE, _CHANGE, _GRADIENT, _NONZERO, _MEAN, _LOW, _HIGH = range(8)


_NAN = float("nan")
Fetched = Sequence[Sequence[float]]
"""What `Before.compared` gave, as lists: a layer has few parameters, and arrays of two cost more than lists."""


@dataclass(frozen=True)
class _Share:
    """Which parameters are a layer's weights and which its biases: their indices."""

    weights: Sequence[int]
    biases: Sequence[int]


class Weights:
    """The parameters of all layers, each once however many layers share it."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        index: dict[int, int] = {}
        self.parameters: list[nn.Parameter] = []
        self.waits = False
        """Whether some are left out because they have no shape before the first forward pass."""
        self._shares: dict[str, tuple[str, _Share]] = {}
        for layer in layers:
            kinds: tuple[list[int], list[int]] = ([], [])
            for name, parameter in layer.parameters.items():
                lazy: bool = nn.parameter.is_lazy(parameter)
                if lazy:
                    self.waits = True
                    continue
                if not parameter.is_floating_point() or not parameter.numel():
                    continue
                if id(parameter) not in index:
                    index[id(parameter)] = len(self.parameters)
                    self.parameters.append(parameter)
                kinds["bias" in name].append(index[id(parameter)])
            if any(kinds):
                self._shares[layer.name] = (layer.kind, _Share(*kinds))
        self._sizes = [parameter.numel() for parameter in self.parameters]

    def before(self) -> Before:
        """Hold the weights as they are now."""
        return Before(self.parameters)

    def figures(self, fetched: Fetched) -> Iterator[tuple[str, str, dict[str, float]]]:
        """Yield name, kind and figures of each layer; those of gradients and updates only where there was an update."""
        if _left_out(fetched):
            none = [_NAN] * len(self.parameters)
            fetched = [none if row in (_CHANGE, _GRADIENT, _NONZERO) else fetched[row] for row in range(len(fetched))]
        for name, (kind, share) in self._shares.items():
            yield name, kind, self._of_layer(fetched, share)

    def _of_layer(self, fetched: Fetched, share: _Share) -> dict[str, float]:
        both = [*share.weights, *share.biases]
        main = share.weights or both
        norm, change = _root(fetched[_NORM], main), _root(fetched[_CHANGE], main)
        found = {
            "update_ratio": change / norm if norm else _NAN,
            "gradient_norm": _root(fetched[_GRADIENT], both),
            "weight_norm": _root(fetched[_BEFORE], main),
        }
        given = [i for i in both if fetched[_NONZERO][i] == fetched[_NONZERO][i]]
        if given:
            nonzero = sum(fetched[_NONZERO][i] for i in given)
            found["gradient_zeros"] = 1 - nonzero / sum(self._sizes[i] for i in given)
        for kind, chosen in (("weight", share.weights), ("bias", share.biases)):
            if chosen:
                found |= self._values(fetched, kind, chosen)
        return found

    def _values(self, fetched: Fetched, kind: str, chosen: Sequence[int]) -> dict[str, float]:
        size = sum(self._sizes[i] for i in chosen)
        mean = sum(fetched[_MEAN][i] * self._sizes[i] for i in chosen) / size
        variance = sum(fetched[_NORM][i] ** 2 for i in chosen) / size - mean**2
        largest = max(max(-fetched[_LOW][i], fetched[_HIGH][i]) for i in chosen)
        return {f"{kind}_mean": mean, f"{kind}_std": _sqrt(variance), f"{kind}_max": largest}


class Before:
    """The weights before a step."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._trained = [i for i, parameter in enumerate(parameters) if parameter.requires_grad]
        self._values = [parameters[i].detach().clone() for i in self._trained]

    def compared(self) -> Tensor:
        """Return 8 figures of each parameter (8, P), on the device; NaN of those not trained.

        One is the norm before the step: that is where the gradient was taken, and a step may be a large one.
        """
        if not self._parameters:
            return torch.zeros(8, 0)
        now = [parameter.detach() for parameter in self._parameters]
        trained = [now[i] for i in self._trained]
        gradients = [(i, _values(grad)) for i in self._trained if (grad := self._parameters[i].grad) is not None]
        norms = torch.stack(torch._foreach_norm(now)).float()
        before = norms
        if trained:
            known = self._spread(self._trained, torch._foreach_norm(self._values))
            before = known if len(trained) == len(now) else torch.where(known.isnan(), norms, known)
            torch._foreach_sub_(self._values, trained)
        given = [index for index, _ in gradients]
        ends = [torch.aminmax(value) for value in now]
        rows = [
            norms,
            before,
            self._spread(self._trained, torch._foreach_norm(self._values) if trained else ()),
            self._spread(given, torch._foreach_norm([gradient for _, gradient in gradients]) if given else ()),
            self._spread(given, [torch.count_nonzero(gradient) for _, gradient in gradients]),
            torch.stack([value.mean() for value in now]),
            torch.stack([low for low, _ in ends]),
            torch.stack([high for _, high in ends]),
        ]
        return torch.stack([row.float() for row in rows])

    def _spread(self, at: Sequence[int], values: Sequence[Tensor]) -> Tensor:
        """Return a figure for all parameters from that of some, NaN for the others (P,)."""
        if not at:
            return torch.full((len(self._parameters),), float("nan"), device=self._parameters[0].device)
        found = torch.stack(list(values)).float()
        if len(at) == len(self._parameters):
            return found
        missing = torch.full((len(self._parameters),), float("nan"), device=found.device)
        missing[torch.as_tensor(at, device=found.device)] = found
        return missing


def _left_out(fetched: Fetched) -> bool:
    """Tell whether the step was none: gradients overflowed, and the weights are as before.

    A `GradScaler` begins with such steps on purpose, to find out how far it may scale float16's gradients.
    """
    given = [i for i, number in enumerate(fetched[_NONZERO]) if number == number]
    infinite = any(not math.isfinite(fetched[_GRADIENT][i]) for i in given)
    return infinite and all(fetched[_CHANGE][i] == 0 for i in given)


def _values(gradient: Tensor) -> Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _root(norms: Sequence[float], chosen: Sequence[int]) -> float:
    """Return the norm of parts together; those that have none are left out, NaN where none has one."""
    known = [norm for i in chosen if (norm := norms[i]) == norm]
    return _sqrt(sum(norm**2 for norm in known)) if known else _NAN


def _sqrt(square: float) -> float:
    """Return the root; rounding may leave less than 0 of what is none."""
    return math.sqrt(max(square, 0.0)) if square == square else _NAN
