"""Networks made of the mean of others' weights, which came from the same ones: SWA, averages with their own batch norm.

Weights that were trained apart from the start lie in different valleys, and their mean is none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from search.train.batches import Batches
from search.train.data.arrays import Array, Dataset
from search.train.data.split import folds_of
from search.train.estimator import Estimator
from search.train.loop import EVALUATION_BATCH, predict
from search.train.metrics import Metric
from search.train.steps import seed_everything

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Soup:
    """What a greedy choice came to: the indices taken, and predictions on validation that are cross-fitted."""

    taken: tuple[int, ...]
    cross_fitted: Array


class Kitchen:
    """Means of some weights' subsets in one network, and what they predict of the validation split."""

    def __init__(
        self, model: Estimator, weights: Sequence[Weights], dataset: Dataset, batches: Batches, batch_size: int
    ) -> None:
        """`batch_size` is that of training, whose batches batch norm's statistics are taken of."""
        self._model, self._weights = model, weights
        self._dataset, self._batches, self._batch_size = dataset, batches, batch_size
        self._predicted: dict[tuple[int, ...], Array] = {}

    def pour(self, chosen: Sequence[int]) -> None:
        """Give the network the mean of the weights at these indices (Izmailov et al. 2018, algorithm 1)."""
        self._model.load_state_dict(mean_of([self._weights[i] for i in sorted(chosen)]))
        self._renew_statistics()

    def predictions(self, chosen: Sequence[int]) -> Array:
        """Return the mean's predictions on validation: (N, C) or (N,)."""
        key = tuple(sorted(chosen))
        if key not in self._predicted:
            self.pour(key)
            self._predicted[key] = predict(
                self._model,
                self._batches,
                self._dataset.split.validation,
                self._dataset.examples.task,
                min(EVALUATION_BATCH, 8 * self._batch_size),
            )
        return self._predicted[key]

    def greedy(self, metric: Metric, folds: int, seed: int) -> Soup:
        """Take weights, the best first, where the metric becomes no worse for it (Wortsman et al. 2022, recipe 1)."""
        targets = self._dataset.examples.targets[self._dataset.split.validation]
        whole = self._choose(metric, targets, np.ones(len(targets), dtype=bool))
        cross_fitted = self.predictions(whole).copy()
        masks = folds_of(len(targets), folds, seed)
        for held_out in masks if len(masks) > 1 else ():
            cross_fitted[held_out] = self.predictions(self._choose(metric, targets, ~held_out))[held_out]
        return Soup(taken=whole, cross_fitted=cross_fitted)

    def _choose(self, metric: Metric, targets: Array, among: Array) -> tuple[int, ...]:
        alone = [metric(self.predictions([i])[among], targets[among]) for i in range(len(self._weights))]
        sign = -1.0 if metric.maximize else 1.0
        first, *others = sorted(range(len(alone)), key=lambda i: sign * alone[i] if np.isfinite(alone[i]) else np.inf)
        chosen, best = [first], alone[first]
        for i in others:
            value = metric(self.predictions([*chosen, i])[among], targets[among])
            if np.isfinite(value) and not metric.better(best, value):
                chosen, best = [*chosen, i], value
        return tuple(chosen)

    def _renew_statistics(self) -> None:
        """Take batch norm's statistics anew, as means over all batches; frozen ones keep theirs.

        PyTorch's `update_bn` would reset the frozen ones, too.
        """
        self._model.train()  # with dropout, as in training
        norms = [m for m in self._model.modules() if isinstance(m, _BatchNorm) and m.training]
        if not norms:
            return
        seed_everything(0)
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean
        with torch.no_grad():
            for inputs in self._training_inputs():
                self._model(inputs)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def _training_inputs(self) -> Iterator[Tensor]:
        """Yield the inputs in batches at random: those of data that lies there class by class would be of one each."""
        train = torch.as_tensor(self._dataset.split.train)
        mixed = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))]
        for inputs, _, _ in self._batches(mixed, self._batch_size):
            if len(inputs) > 1:  # batch norm cannot take a single example
                yield inputs


def mean_of(weights: Sequence[Weights]) -> dict[str, Tensor]:
    """Return the mean of each tensor; of what is no floating-point number, a counter of batches say, the first's."""
    first = weights[0]
    return {
        name: torch.stack([w[name].double() for w in weights]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else value.clone()
        for name, value in first.items()
    }
