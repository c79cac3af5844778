"""R46, R49: the weights of a trained network: how they are spread, and what its first layer looks for."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch import Tensor, nn

from search.checks.evidence import Array, Curves, Evidence, Pictures
from search.checks.trials.layers import shown
from search.train.diagnostics.layers import layers_of

_BINS = 60
_REACH = 4.0
_FILTERS = 64
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


def evidence_of(network: nn.Module, in_shape: tuple[int, ...]) -> Iterator[Evidence]:
    """Yield the histograms of the weights of all layers, and the first layer's weights in the shape of its inputs."""
    matrices = [
        (layer.name, values)
        for layer in layers_of(network)
        for name, parameter in layer.parameters.items()
        if parameter.ndim > 1 and "bias" not in name and len(values := _values(parameter)) > 1 and values.std() > 0
    ]
    if matrices:
        yield _histograms([matrices[i] for i in shown(list(range(len(matrices))))])
    first = _first_weights(network, in_shape)
    if first is not None:
        yield Pictures(
            name="first-layer",
            title="weights of the first layer",
            inputs=first,
            captions=tuple(f"unit {i}" for i in range(len(first))),
        )


def _histograms(matrices: list[tuple[str, Array]]) -> Curves:
    edges = np.linspace(-_REACH, _REACH, _BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    lines: dict[str, Array] = {}
    for name, values in matrices:
        inside, _ = np.histogram((values - values.mean()) / values.std(), bins=edges)
        density = inside / len(values) / (edges[1] - edges[0])
        lines[f"{name} ({values.mean():.2g} ± {values.std():.2g})"] = np.stack([middles, density])
    lines["Gaussian"] = np.stack([middles, np.exp(-(middles**2) / 2) / math.sqrt(2 * math.pi)])
    return Curves(
        name="weights", title="weights of each layer, standardised", x="standard deviations", y="density", lines=lines
    )


def _first_weights(network: nn.Module, in_shape: tuple[int, ...]) -> Array | None:
    """Return the first layer's weights as pictures (N, C, H, W) or series (N, C, L); None where they are neither."""
    first = next((m for m in network.modules() if isinstance(m, (*_CONVOLUTIONS, nn.Linear))), None)
    if first is None or len(in_shape) < 2:
        return None
    weights = _values(first.weight).reshape(first.weight.shape)[:_FILTERS]
    if isinstance(first, nn.Linear):
        return weights.reshape(-1, *in_shape) if weights.shape[1] == math.prod(in_shape) else None
    return weights if weights.shape[-1] > 1 else None


def _values(parameter: Tensor) -> Array:
    found: Array = parameter.detach().float().cpu().numpy().reshape(-1)
    return found[np.isfinite(found)] if not np.isfinite(found).all() else found
