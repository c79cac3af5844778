"""A network with its preprocessing inside: raw inputs in, logits or values in the target's unit out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from search.config.build import accepted, factory
from search.errors import UsageError
from search.train.data.arrays import Array, Dataset
from search.train.dropout import counted
from search.train.reduce import Reduction, reduction_of

_STATISTICS_EXAMPLES = 20_000  # enough for a mean; a pass over millions would delay the start


class Estimator(nn.Module):
    """Standardises inputs, calls the network, and puts its outputs where the targets are.

    A regression's get the targets' mean and unit, a classification's the classes' log-odds: a network that knows
    nothing yet gives the prior, whatever its last layer (unless the loss is of the user's own). All statistics are
    those of the training split alone; of the inputs per channel for pictures and series (C, ...), per feature for
    tables (F,). Missing inputs (NaN) become the training mean. A reduction makes the network's inputs smaller.
    """

    mean: Tensor
    std: Tensor
    target_mean: Tensor
    target_std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Tensor,
        std: Tensor,
        target_mean: float | Tensor = 0.0,
        target_std: float = 1.0,
        reduction: Reduction | None = None,
    ):
        """`target_mean` is a number, or for classes their log-odds (C,)."""
        super().__init__()
        self.network = network
        self.reduction = reduction
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("target_mean", torch.as_tensor(target_mean, dtype=torch.float32))
        self.register_buffer("target_std", torch.tensor(target_std))
        self._kept: tuple[str, ...] = ()

    def keep_statistics(self, norms: tuple[str, ...]) -> None:
        """Leave these batch norms of the network, by their names, in evaluation mode for good: they are frozen."""
        self._kept = norms
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules but the batch norms that are frozen."""
        super().train(mode)
        for name in self._kept:
            self.network.get_submodule(name).eval()
        return self

    def standardised(self, inputs: Tensor) -> Tensor:
        """Return raw inputs (N, *shape) as the network is given them, float32."""
        whole = torch.nan_to_num((inputs.to(self.mean.dtype) - self.mean) / self.std)
        return whole if self.reduction is None else self.reduction(whole)

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape in which the network is given an input of that one."""
        return shape if self.reduction is None else self.reduction.shape

    def forward(self, inputs: Tensor) -> Tensor:
        """Map raw inputs (N, *shape) to logits (N, C) or values (N, 1); raise UsageError where they come out else."""
        return self.judged(self.standardised(inputs))

    def judged(self, standardised: Tensor) -> Tensor:
        """Map inputs as the network is given them to logits (N, C) or values (N, 1); raise UsageError as above."""
        return self.placed(self.network(standardised), standardised.shape[0])  # len would fix the number in an export

    def placed(self, outputs: Tensor, num: int) -> Tensor:
        """Put a network's outputs for `num` inputs where the targets are; raise UsageError as above."""
        return self.in_unit(outputs, num) + self.target_mean

    def in_unit(self, outputs: Tensor, num: int) -> Tensor:
        """Return a network's outputs in the targets' unit, around 0; raise UsageError as above."""
        if not isinstance(outputs, Tensor):
            raise UsageError(f"model: gives {type(outputs).__name__}; it must give a tensor (N, num_outputs)")
        if not torch.compiler.is_exporting():  # an exported program would take batches of one size alone
            self._require_shape(outputs, num)
        # A target's own unit may be beyond what a lower precision holds.
        exact = outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs
        return exact * self.target_std

    def _require_shape(self, outputs: Tensor, num: int) -> None:
        """Raise UsageError for outputs of another shape: a loss may take them, and something else is learned."""
        wanted = (num, self.target_mean.numel())
        if tuple(outputs.shape) != wanted:
            raise UsageError(f"model: gives {tuple(outputs.shape)} for {num} inputs; it must give {wanted}")


def build(
    config: Mapping[str, Any],
    dataset: Dataset,
    key: str = "model",
    *,
    inputs: Mapping[str, Any] | None = None,
    prior: bool = True,
) -> Estimator:
    """Build the network that `config` (a model node) describes for the data at hand.

    `inputs` is the node that makes them smaller. Without `prior` logits come out as the network gives them, e.g. for a
    loss that is meant for log-probabilities. A target that takes `in_shape` (shape of one input, as the network is
    given it) or `num_outputs` (classes, or 1) is given them. Raises UsageError where it cannot be built or is no
    nn.Module.
    """
    examples = dataset.examples
    mean, std = _statistics(examples.inputs, dataset.split.train)
    reduction = reduction_of(inputs, dataset, mean, std)
    shape = tuple(examples.inputs.shape[1:]) if reduction is None else reduction.shape
    offered = {"in_shape": shape, "num_outputs": examples.num_outputs}
    network = factory(config, key)(**accepted(config, offered))
    if not isinstance(network, nn.Module):
        raise UsageError(f"{key}._target_={config['_target_']}: gives {type(network).__name__}, not an nn.Module")
    network = counted(network)
    if examples.task == "classification":
        odds = _log_odds(examples.targets[dataset.split.train], examples.num_outputs)
        return Estimator(network, mean, std, odds if prior else torch.zeros_like(odds), reduction=reduction)
    targets = examples.targets[dataset.split.train].astype(np.float64)
    return Estimator(network, mean, std, float(targets.mean()), float(targets.std()) or 1.0, reduction)


def _log_odds(targets: Array, num_classes: int) -> Tensor:
    """Return the logarithms of the classes' shares (C,), around 0; a class without examples counts as one."""
    counts = np.maximum(np.bincount(targets, minlength=num_classes), 1)
    odds = np.log(counts / counts.sum())
    return torch.tensor(odds - odds.mean(), dtype=torch.float32)


def _statistics(inputs: Array, train: Array) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, shaped to broadcast against one input."""
    every = max(1, len(train) // _STATISTICS_EXAMPLES)
    sample = inputs[train[::every]].astype(np.float64)
    axes = (0, *range(2, sample.ndim))
    with warnings.catch_warnings():  # a column without a value has no mean
        warnings.simplefilter("ignore", RuntimeWarning)
        mean, std = np.nanmean(sample, axis=axes), np.nanstd(sample, axis=axes)
    mean, std = np.nan_to_num(mean), np.nan_to_num(std)
    std[std < 1e-8] = 1.0  # a constant input carries nothing; leave it at 0 rather than divide by 0
    shape = (-1,) + (1,) * (sample.ndim - 2)
    return tuple(torch.tensor(v, dtype=torch.float32).reshape(shape) for v in (mean, std))  # type: ignore[return-value]
