"""Weights, their gradients and their change in one step, by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from search.train.diagnostics.layers import Layer
from search.train.diagnostics.table import Array

_NORM, _CHANGE, _GRADIENT, _NONZERO, _MEAN, _LOW, _HIGH = range(7)


@dataclass(frozen=True, eq=False)
class _Share:
    """Which parameters are a layer's weights and which its biases: their indices."""

    weights: Array
    biases: Array


class Weights:
    """The parameters of all layers, each once however many layers share it."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        index: dict[int, int] = {}
        self.parameters: list[nn.Parameter] = []
        self._shares: dict[str, tuple[str, _Share]] = {}
        for layer in layers:
            kinds: tuple[list[int], list[int]] = ([], [])
            for name, parameter in layer.parameters.items():
                if not parameter.is_floating_point() or not parameter.numel():
                    continue
                if id(parameter) not in index:
                    index[id(parameter)] = len(self.parameters)
                    self.parameters.append(parameter)
                kinds["bias" in name].append(index[id(parameter)])
            if any(kinds):
                share = _Share(*(np.array(sorted(kind), dtype=np.int64) for kind in kinds))
                self._shares[layer.name] = (layer.kind, share)
        self._sizes = np.array([parameter.numel() for parameter in self.parameters], np.float64)

    def before(self) -> Before:
        """Hold the weights as they are now."""
        return Before(self.parameters)

    def figures(self, fetched: Array) -> Iterator[tuple[str, str, dict[str, float]]]:
        """Yield name, kind and figures of each layer from what `Before.compared` gave."""
        for name, (kind, share) in self._shares.items():
            yield name, kind, self._of_layer(fetched, share)

    def _of_layer(self, fetched: Array, share: _Share) -> dict[str, float]:
        weights, biases = share.weights, share.biases
        both = np.concatenate([weights, biases])
        main = weights if len(weights) else both
        norm = _root(fetched[_NORM, main])
        change, gradient = _root(fetched[_CHANGE, main]), _root(fetched[_GRADIENT, both])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.float64(change) / norm
        found = {"update_ratio": float(ratio), "gradient_norm": gradient, "weight_norm": norm}
        given = both[np.isfinite(fetched[_NONZERO, both])]
        if len(given):
            found["gradient_zeros"] = 1 - float(fetched[_NONZERO, given].sum() / self._sizes[given].sum())
        for kind, chosen in (("weight", weights), ("bias", biases)):
            if len(chosen):
                found |= self._values(fetched, kind, chosen)
        return found

    def _values(self, fetched: Array, kind: str, chosen: Array) -> dict[str, float]:
        sizes = self._sizes[chosen]
        mean = float((fetched[_MEAN, chosen] * sizes).sum() / sizes.sum())
        square = float((fetched[_NORM, chosen] ** 2).sum() / sizes.sum())
        largest = max(float(-fetched[_LOW, chosen].min()), float(fetched[_HIGH, chosen].max()))
        return {f"{kind}_mean": mean, f"{kind}_std": float(np.sqrt(max(square - mean**2, 0))), f"{kind}_max": largest}


class Before:
    """The weights before a step."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._trained = [i for i, parameter in enumerate(parameters) if parameter.requires_grad]
        self._values = [parameters[i].detach().clone() for i in self._trained]

    def compared(self) -> Tensor:
        """Return 7 figures of each parameter after the step (7, P), on the device; NaN of those not trained."""
        if not self._parameters:
            return torch.zeros(7, 0)
        now = [parameter.detach() for parameter in self._parameters]
        trained = [now[i] for i in self._trained]
        gradients = [(i, _values(grad)) for i in self._trained if (grad := self._parameters[i].grad) is not None]
        if trained:
            torch._foreach_sub_(self._values, trained)
        given = [index for index, _ in gradients]
        ends = [torch.aminmax(value) for value in now]
        rows = [
            torch.stack(torch._foreach_norm(now)),
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


def _values(gradient: Tensor) -> Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _root(norms: Array) -> float:
    """Return the norm of parts together; those that have none are left out, NaN where none has one."""
    known = norms[~np.isnan(norms)]
    return float(np.sqrt((known**2).sum())) if len(known) else float("nan")
