"""The few figures of a run that stand beside its losses."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import numpy as np

from search.train.diagnostics.table import FIGURES, Array, jitter

_OVER_LAYERS: dict[str, tuple[str, Callable[[Sequence[float]], float]]] = {
    "layers/update_ratio_max": ("update_ratio", max),
    "layers/update_ratio_median": ("update_ratio", statistics.median),
    "layers/activation_std_max": ("activation_std", max),
    "layers/activation_std_min": ("activation_std", min),
    "layers/activation_std_median": ("activation_std", statistics.median),
    "layers/dead_max": ("dead", max),
    "layers/saturated_max": ("saturated", max),
    "layers/gradient_norm_max": ("gradient_norm", max),
    "layers/gradient_norm_median": ("gradient_norm", statistics.median),
    "layers/weight_max": ("weight_max", max),
}
NAMES = (*_OVER_LAYERS, "layers/gradient_first_to_last", "layers/jitter")
"""All of them; a search may hold many trials, so they stay few."""


def summary(row: Array, predictions: Sequence[Array]) -> dict[str, float]:
    """Return the figures of a step's row (L, F) and of the last two epochs' predictions, as far as they are known."""
    columns = dict(zip(FIGURES, row.T.tolist(), strict=True))
    known = {figure: [v for v in columns[figure] if math.isfinite(v)] for figure, _ in _OVER_LAYERS.values()}
    found = {name: by(known[figure]) for name, (figure, by) in _OVER_LAYERS.items() if known[figure]}
    found["layers/gradient_first_to_last"] = first_to_last(row)
    if len(predictions) > 1:
        found["layers/jitter"] = float(jitter(np.stack(predictions))[-1])
    return {name: float(f"{value:.4g}") for name, value in found.items() if math.isfinite(value)}


def first_to_last(row: Array) -> float:
    """Return by how much the loss hangs on the first layer's weights, over the same of the last one's.

    Layers count by |gradient| |weights|, which no rescaling of a layer changes; those without a matrix of weights are
    left out. NaN where there are no two.
    """
    size = pull(row)
    size = size[np.isfinite(size)]
    return float(size[0] / size[-1]) if len(size) > 1 and size[-1] > 0 else math.nan


def pull(row: Array) -> Array:
    """Return |gradient| |weights| of each layer (..., L), for rows (..., L, F)."""
    gradient, norm = (row[..., FIGURES.index(figure)] for figure in ("gradient_norm", "weight_norm"))
    with np.errstate(invalid="ignore", over="ignore"):  # of a run whose weights are 0 or infinite
        return np.asarray(gradient * norm)
