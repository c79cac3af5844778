"""What is known of a run when it has ended, and the figures that a diagnosis hangs on."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from search.train.data.arrays import Dataset
from search.train.diagnostics.summary import pull
from search.train.diagnostics.table import Array, LayerTable

NORMALISATIONS = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm", "LocalResponseNorm")
RECURRENT = ("RNN", "LSTM", "GRU")
"""How the names of such modules begin; a user's own may end so, too."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """The losses of a run after each of its E epochs, (E,), and how it ended.

    `nothing_train` and `nothing_validation` are what a model that knows nothing of the inputs would have; None for the
    training loss where it is one of the user's own. `num_validation` are the examples of the validation split; with
    `classes` their loss is in nats, else in the target's unit, squared. `ended` tells whether it came to the end of
    its plan or was stopped for lack of progress: a run that was cut short is not judged by how far it came. `failure`
    says what became infinite, and where; empty where nothing did.
    """

    train: Array
    validation: Array
    nothing_train: float | None
    nothing_validation: float
    num_validation: int
    classes: bool
    steps_per_epoch: int
    ended: bool
    failure: str = ""


def nothing_of(dataset: Dataset, part: str, *, even: bool = False) -> float:
    """Return the loss on "train" or "validation" of knowing nothing but the training targets.

    As the loop counts it: cross-entropy; squared error, over the training targets' variance while training and in the
    target's own unit while validating. `even`: the loss counts classes alike, however rare they are.
    """
    targets, split = dataset.examples.targets, dataset.split
    train, judged = targets[split.train], targets[split.of(part)]
    if dataset.examples.task == "regression":
        errors = (judged - train.mean(dtype=np.float64)) ** 2
        return 1.0 if part == "train" else float(errors.mean())
    number = dataset.examples.num_outputs
    if even:
        return float(np.log(number))
    shares = np.maximum(np.bincount(train, minlength=number), 1) / len(train)
    return float(-np.log(shares / shares.sum())[judged].mean())


@dataclass(frozen=True, eq=False)
class Signs:
    """What speaks for one thing or another, from the table of layers and the course."""

    table: LayerTable
    course: Course

    @cached_property
    def train(self) -> Array:
        """Return the training losses over that of knowing nothing (E,), or over the first where that is unknown."""
        return self.course.train / self._unit

    @cached_property
    def validation(self) -> Array:
        """Return the validation losses over that of knowing nothing (E,)."""
        return self.course.validation / (self.course.nothing_validation or 1.0)

    @cached_property
    def weighted(self) -> Array:
        """Return the indices of the layers with weights that are no normalisation's, in order."""
        known = np.isfinite(self.table.of("weight_norm")).any(axis=0)
        plain = [not _begins(kind, NORMALISATIONS) for kind in self.table.kinds]
        return np.flatnonzero(known & np.array(plain, bool))

    @cached_property
    def normalised(self) -> bool:
        """Tell whether the network has normalisations at all."""
        return any(_begins(kind, NORMALISATIONS) for kind in self.table.kinds)

    @cached_property
    def recurrent(self) -> Array:
        """Tell which layers are recurrent ones, bool (L,)."""
        return np.array([_begins(kind, RECURRENT) for kind in self.table.kinds], bool)

    @cached_property
    def ratios(self) -> Array:
        """Return the median layer's ratio of update to weights in each row (S,)."""
        return _median(self.table.of("update_ratio")[:, self.weighted], axis=1)

    @cached_property
    def travel(self) -> float:
        """Return how far the weights moved in the whole run, each step's update over their norm, added up."""
        known = self.ratios[np.isfinite(self.ratios)]
        return float(known.mean()) * len(self.train) * self.course.steps_per_epoch if len(known) else float("nan")

    @cached_property
    def pulls(self) -> Array:
        """Return by how much the loss would change, relatively, with each layer's weights (S, L)."""
        return pull(self.table.values) / self._unit

    @cached_property
    def depth(self) -> Array:
        """Return the standard deviation of the outputs of each layer with weights but the last, before training."""
        stds = self.table.of("activation_std")[0, self.weighted[:-1]]
        known: Array = stds[np.isfinite(stds)]
        return known

    @cached_property
    def shrunk(self) -> float:
        """Return what is left of the weights of the median layer with weights: its norm at the end over the first."""
        norms = self.table.of("weight_norm")[:, self.weighted]
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(_median(norms[-1] / norms[0], axis=0))

    @property
    def unit(self) -> str:
        """Return in words what the training losses are divided by."""
        return "the first epoch's" if self.course.nothing_train is None else "that of knowing nothing"

    @property
    def _unit(self) -> float:
        first = float(self.course.train[0]) if len(self.course.train) else 1.0
        unit = abs(first if self.course.nothing_train is None else self.course.nothing_train)
        return unit if np.isfinite(unit) and unit > 0 else 1.0


def _begins(kind: str, names: tuple[str, ...]) -> bool:
    return kind.startswith(names) or kind.endswith(names)


def _median(values: Array, axis: int) -> Array:
    with warnings.catch_warnings():  # a layer that is frozen has no figure at all
        warnings.filterwarnings("ignore", message="All-NaN slice|Mean of empty slice", category=RuntimeWarning)
        return np.asarray(np.nanmedian(values, axis=axis))
