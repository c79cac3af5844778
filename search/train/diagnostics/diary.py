"""What a training writes down about itself, so that it can be said at its end what ails it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from search.train.data.arrays import Array, Dataset
from search.train.diagnostics.course import Course, nothing_of
from search.train.diagnostics.diagnosis import Diagnosis, diagnose
from search.train.diagnostics.outputs import Outputs
from search.train.diagnostics.probe import Probe
from search.train.diagnostics.table import LayerTable

EVERY = 100
"""Steps between two that are looked at; the first of an epoch always is."""


def due(step: int, steps_per_epoch: int) -> bool:
    """Tell whether a step, counted from 0, is looked at."""
    return step % steps_per_epoch % EVERY == 0


class Diary:
    """The layers in some steps, and the losses and a few predictions of each epoch."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        steps_per_epoch: int,
        dataset: Dataset,
        nothing_train: float | None,
    ) -> None:
        """`nothing_train` is the training loss of knowing nothing of the inputs, where that is known."""
        self._probe = Probe(model, optimizer)
        self._steps_per_epoch, self._nothing_train = steps_per_epoch, nothing_train
        self._dataset = dataset
        self._losses: list[tuple[float, float]] = []

    def looking(self, step: int) -> contextlib.AbstractContextManager[None]:
        """Return what a step of the optimiser, counted from 0, is to be taken in."""
        return self._probe.watching(step) if due(step, self._steps_per_epoch) else contextlib.nullcontext()

    def given(self, step: int, outputs: Outputs, compared: Tensor) -> None:
        """Take in what was seen of a step elsewhere (see `Probe.given`)."""
        self._probe.given(step, outputs, compared)

    def close_epoch(self, train: float, validation: float, predictions: Array) -> dict[str, float]:
        """Keep the epoch's losses and its predictions on the validation split; return its figures."""
        self._losses.append((train, validation))
        self._probe.keep_predictions(predictions)
        return self._probe.figures()

    @property
    def table(self) -> LayerTable:
        """The figures of the layers so far."""
        return self._probe.table()

    def diagnoses(self, *, ended: bool, failure: str = "") -> tuple[Diagnosis, ...]:
        """Return what ails the run so far (see `Course` for what it is told)."""
        losses = np.array(self._losses, dtype=np.float64).reshape(-1, 2)
        course = Course(
            train=losses[:, 0],
            validation=losses[:, 1],
            nothing_train=self._nothing_train,
            nothing_validation=nothing_of(self._dataset, "validation"),
            num_validation=len(self._dataset.split.validation),
            classes=self._dataset.examples.task == "classification",
            steps_per_epoch=self._steps_per_epoch,
            ended=ended,
            failure=failure,
        )
        return diagnose(self.table, course)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on from."""
        return {"probe": self._probe.state_dict(), "losses": torch.tensor(self._losses, dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._probe.load_state_dict(state["probe"])
        self._losses = [(train, validation) for train, validation in state["losses"].reshape(-1, 2).tolist()]
