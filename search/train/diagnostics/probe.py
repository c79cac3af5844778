"""Looks into single steps of a training: a row of figures per layer each, for little more than the step itself."""

from __future__ import annotations

import contextlib
import itertools
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from search.train.diagnostics.layers import Layer, compiled, layers_of
from search.train.diagnostics.outputs import Outputs, Seen
from search.train.diagnostics.summary import summary
from search.train.diagnostics.table import FIGURES, Array, LayerTable
from search.train.diagnostics.weights import Before, Weights

EXAMPLES = 64
"""Of the validation split, whose predictions are kept after each epoch."""
DEAD_ROWS = 8
"""A unit is dead when it was 0 on as many batches that were looked at, one after the other."""
_NAN = float("nan")
_EMPTY: Iterable[dict[str, float]] = itertools.repeat({})


@dataclass(frozen=True)
class _Row:
    """A step that was looked at, not yet fetched from the device."""

    step: int
    rate: float
    outputs: Outputs
    weights: Weights
    fetched: Tensor


class Probe:
    """Watches chosen steps of one training; all others cost nothing.

    Layers are modules with parameters of their own and activation modules; one that is called several times in a
    step (micro-batches, time steps) has one row for all of it, but an activation has one for each layer it follows.
    A step that is looked at takes memory for one more copy of the weights. Nothing random is drawn, nothing changed.
    Where looking itself raises, a user's module being of an odd kind, say, the training goes on and is looked at less.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._model, self._optimizer = model, optimizer
        self._layers: list[Layer] = []
        self._weights: Weights | None = None
        self._given_up = False
        self.skipped = "the model is compiled: nothing is known of its activations" if compiled(model) else None
        """Why a part of the figures is missing; None where none is."""
        self._rows: list[_Row] = []
        self._served: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        self._steps: list[int] = []
        self._rates: list[float] = []
        self._values: list[Array] = []
        self._predictions: list[Array] = []
        self._quiet: dict[str, Array] = {}

    @contextlib.contextmanager
    def watching(self, step: int) -> Iterator[None]:
        """Record one row for what is done within: forward and backward, in parts or at once, and the update.

        `step` counts the steps of the optimiser from 0. Gradients are those that the optimiser was given.
        """
        if self._given_up:
            yield
            return
        outputs = Outputs(self._served)
        handles: list[RemovableHandle] = []
        before: Before | None = None
        with self._surviving():
            if self._weights is None or self._weights.waits:
                self._layers = layers_of(self._model)
                self._weights = Weights(self._layers)
            before = self._weights.before()
            handles.extend(() if self.skipped else outputs.hooked(self._layers))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        if outputs.failure is not None:
            self._skip("what layers give cannot be looked at", outputs.failure)
            outputs = Outputs(self._served)
        with self._surviving():
            if self._weights is not None and before is not None:
                outputs.pack()
                rate = float(self._optimizer.param_groups[0].get("lr", np.nan))
                self._rows.append(_Row(step, rate, outputs, self._weights, before.compared()))

    def given(self, step: int, outputs: Outputs, compared: Tensor) -> None:
        """Record one row of figures that were found elsewhere, `compared` being those of `Before`."""
        with self._surviving():
            self._weights = self._weights or Weights(layers_of(self._model))
            rate = float(self._optimizer.param_groups[0].get("lr", np.nan))
            self._rows.append(_Row(step, rate, outputs, self._weights, compared))

    @contextlib.contextmanager
    def _surviving(self) -> Iterator[None]:
        """Look no more after what is raised within: that is no reason for a training to end."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - networks and optimisers may be of any kind
            self._given_up = True
            self._rows = []
            self._skip("its layers cannot be looked at", error)

    def _skip(self, what: str, error: Exception) -> None:
        self.skipped = f"{what}: {type(error).__name__}: {' '.join(str(error).split())}"
        traceback.print_exception(error)

    def keep_predictions(self, predictions: Array) -> None:
        """Keep the first of an epoch's predictions on the validation split, (N, C) or (N,)."""
        self._predictions.append(predictions[:EXAMPLES].astype(np.float32))

    def figures(self) -> dict[str, float]:
        """Return the worst and the median layer of the last row, by fixed names; what is not there is left out."""
        with self._surviving():
            self._settle()
        return summary(self._values[-1], self._predictions[-2:]) if self._values else {}

    def table(self) -> LayerTable:
        """Return all rows so far."""
        with self._surviving():
            self._settle()
        values = np.full((len(self._values), len(self._labels), len(FIGURES)), np.nan, np.float32)
        for row, found in zip(values, self._values, strict=True):
            row[: len(found)] = found
        return LayerTable(
            steps=np.array(self._steps, np.int64),
            rates=np.array(self._rates, np.float64),
            layers=tuple(self._labels),
            kinds=tuple(self._labels.values()),
            values=values,
            predictions=np.stack(self._predictions) if self._predictions else np.zeros((0, 0), np.float32),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs to have the whole table."""
        table = self.table()
        return {
            "steps": torch.from_numpy(table.steps),
            "rates": torch.from_numpy(table.rates),
            "layers": list(table.layers),
            "kinds": list(table.kinds),
            "values": torch.from_numpy(table.values),
            "predictions": torch.from_numpy(table.predictions),
            "quiet": {label: torch.from_numpy(rows) for label, rows in self._quiet.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._rows = []
        self._steps, self._rates = state["steps"].tolist(), state["rates"].tolist()
        self._labels = dict(zip(state["layers"], state["kinds"], strict=True))
        self._values = list(state["values"].numpy().copy())
        self._predictions = list(state["predictions"].numpy().copy())
        self._quiet = {label: rows.numpy().copy() for label, rows in state["quiet"].items()}

    def _settle(self) -> None:
        """Fetch the rows from the device and put them into the table."""
        for row in self._rows:
            found = {label: self._of_outputs(label, seen) for label, seen in row.outputs.fetched().items()}
            for name, kind, figures in row.weights.figures(row.fetched.tolist()):
                self._labels.setdefault(name, kind)
                found.setdefault(name, {}).update(figures)
            rows = [[figures.get(name, _NAN) for name in FIGURES] for figures in map(found.get, self._labels, _EMPTY)]
            values = np.array(rows, np.float32).reshape(-1, len(FIGURES))
            self._steps.append(row.step)
            self._rates.append(row.rate)
            self._values.append(values)
        self._rows = []

    def _of_outputs(self, label: str, seen: Seen) -> dict[str, float]:
        self._labels.setdefault(label, seen.kind)
        found = {"activation_mean": seen.mean, "activation_std": seen.std}
        if seen.saturated is not None:
            found["saturated"] = seen.saturated
        if seen.alive is not None:
            quiet = self._quiet.get(label)
            before = np.zeros(len(seen.alive), np.int64) if quiet is None or len(quiet) != len(seen.alive) else quiet
            self._quiet[label] = now = np.where(seen.alive, 0, before + 1)
            found["silent"] = 1 - float(seen.alive.mean())
            found["dead"] = float((now >= min(DEAD_ROWS, len(self._values) + 1)).mean())
        return found
