"""The figures of a run's layers over its steps, and its predictions on a few examples over its epochs: one file."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from search.files import write_atomically

Array = np.ndarray[Any, Any]

FIGURES = (
    "update_ratio",
    "activation_mean",
    "activation_std",
    "silent",
    "dead",
    "saturated",
    "gradient_norm",
    "gradient_zeros",
    "weight_norm",
    "weight_mean",
    "weight_std",
    "weight_max",
    "bias_mean",
    "bias_std",
    "bias_max",
)
"""What the columns of a table are.

`update_ratio` is the norm of a step's change of a layer's weights over theirs; `silent` the share of units that are 0
on the whole batch, `dead` of those that were so in each of the last batches looked at; `saturated` the share of
outputs at the ends of their range; `gradient_zeros` the share of a layer's gradients that are exactly 0. The norm of
the gradient is of all a layer's parameters together, `weight_norm` that of its weights where it was taken; `weight_max`
and `bias_max` are of the absolute values.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerTable:
    """What was seen in S steps of L layers, in the order in which a forward pass comes to them.

    `values` float32 (S, L, F), F as in `FIGURES`; NaN where a layer has no such figure. `steps` int64 (S,) counts
    the steps of the optimiser from 0; `rates` float64 (S,) are the learning rates of its first group. `layers` are
    the names, `kinds` the modules' classes. `predictions` float32 (E, n, ...) are those on the same few validation
    examples after each epoch.
    """

    steps: Array
    rates: Array
    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    values: Array
    predictions: Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def of(self, figure: str) -> Array:
        """Return one figure of all steps and layers, (S, L)."""
        found: Array = self.values[:, :, FIGURES.index(figure)]
        return found

    def save(self, path: Path) -> None:
        """Write the table as one .npz, without pickles; it is whole or absent."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            allow_pickle=False,
            steps=self.steps,
            rates=self.rates,
            layers=np.array(self.layers, dtype=np.str_),
            kinds=np.array(self.kinds, dtype=np.str_),
            figures=np.array(FIGURES),
            values=self.values,
            predictions=self.predictions,
        )
        write_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> LayerTable:
        """Return what `save` wrote; raise OSError or ValueError where there is none."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                figures = [str(name) for name in stored["figures"]]
                return cls(
                    steps=stored["steps"],
                    rates=stored["rates"],
                    layers=tuple(map(str, stored["layers"])),
                    kinds=tuple(map(str, stored["kinds"])),
                    values=_in_order(stored["values"], figures),
                    predictions=stored["predictions"],
                )
        except (KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path.name} holds no table of layers: {error}") from error


def _in_order(values: Array, figures: list[str]) -> Array:
    """Return the columns as `FIGURES` has them; those that an older file lacks are NaN."""
    missing = np.full(values.shape[:2], np.nan, np.float32)
    columns = [values[:, :, figures.index(name)] if name in figures else missing for name in FIGURES]
    return np.stack(columns, axis=2)


def jitter(predictions: Array) -> Array:
    """Return how far the predictions (E, n, ...) move from each epoch to the next, mean absolute change (E - 1,).

    Values are taken in units of their spread over the examples, class probabilities as they are.
    """
    moved = np.abs(np.diff(predictions.astype(np.float64), axis=0))
    unit = float(predictions[-1].std()) or 1.0 if predictions.ndim == 2 and predictions.size else 1.0
    found: Array = moved.reshape(len(moved), -1).mean(axis=1) / unit if moved.size else np.zeros(0)
    return found
