"""R43 to R46, R48: a trial's table of layers, and its predictions on a few examples, as figures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from search.checks.evidence import Array, Curves, Evidence, Sheet
from search.train.diagnostics.table import FIGURES, LayerTable, jitter

MOST = 10
"""Lines that can be told apart; of more layers every so many is shown, the first and the last among them."""
_EXAMPLES = 8
_FIGURES = {
    "update_ratio": ("size of a step's update over that of the weights", {"about right": 1e-3}, True),
    "activation_std": ("standard deviation of the outputs", {"0.5": 0.5, "2": 2.0}, True),
    "dead": ("share of units that are dead", {}, False),
    "saturated": ("share of outputs at the ends of their range", {}, False),
    "gradient_norm": ("norm of the gradient", {}, True),
    "weight_max": ("largest weight", {}, True),
}
"""Title, levels to hold it against, and whether the axis is logarithmic."""


def evidence_of(table: LayerTable) -> Iterator[Evidence]:
    """Yield the figures of a table: those of the layers over the steps, their last row, and the predictions."""
    for figure, (title, levels, logarithmic) in _FIGURES.items():
        lines = _lines(table, figure, logarithmic)
        if lines:
            yield Curves(
                name=figure.replace("_", "-"),
                title=title,
                x="step",
                y=figure.replace("_", " "),
                lines=lines,
                levels=levels,
                log_y=logarithmic,
            )
    if len(table.steps):
        rows = zip(table.layers, table.kinds, table.values[-1].tolist(), strict=True)
        yield Sheet(
            name="layers",
            columns=("layer", "kind", *FIGURES),
            rows=tuple((layer, kind, *(f"{value:.4g}" for value in values)) for layer, kind, values in rows),
        )
    yield from _predictions(table.predictions)


def shown(names: list[int]) -> list[int]:
    """Return at most `MOST` of the indices, evenly spread."""
    if len(names) <= MOST:
        return names
    return [names[i] for i in np.linspace(0, len(names) - 1, MOST).round().astype(int)]


def _lines(table: LayerTable, figure: str, positive: bool) -> dict[str, Array]:
    values = table.of(figure).astype(np.float64)
    fits = np.isfinite(values) & ((values > 0) | (not positive))
    layers = shown([i for i in range(values.shape[1]) if fits[:, i].any()])
    return {
        table.layers[i]: np.stack([table.steps[fits[:, i]].astype(np.float64), values[fits[:, i], i]]) for i in layers
    }


def _predictions(predictions: Array) -> Iterator[Curves]:
    """Yield what is predicted of a few validation examples after each epoch, and how far it moves in between."""
    if len(predictions) < 2:
        return
    epochs = np.arange(1, len(predictions) + 1, dtype=np.float64)
    chosen = predictions[:, :_EXAMPLES].astype(np.float64)
    if predictions.ndim == 3:
        last = chosen[-1].argmax(axis=1)
        lines = {f"{i}: class {c}": np.stack([epochs, chosen[:, i, c]]) for i, c in enumerate(last)}
        yield Curves(
            name="predictions",
            title="probability of the class that is predicted in the end, of the first validation examples",
            x="epoch",
            y="probability",
            lines=lines,
        )
    else:
        lines = {str(i): np.stack([epochs, chosen[:, i]]) for i in range(chosen.shape[1])}
        yield Curves(
            name="predictions", title="predictions of the first validation examples", x="epoch", y="value", lines=lines
        )
    yield Curves(
        name="jitter",
        title="how far predictions move from epoch to epoch: much, the rate is high; hardly, it is low",
        x="epoch",
        y="mean change",
        lines={"change": np.stack([epochs[1:], jitter(predictions)])},
    )
