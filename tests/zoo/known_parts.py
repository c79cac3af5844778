"""Networks, losses and optimisers with one thing wrong."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class Net(nn.Module):
    """Healthy: two hidden layers over the flattened input."""

    def __init__(self, in_shape: Sequence[int], num_outputs: int, width: int = 48) -> None:
        super().__init__()
        self.first = nn.Linear(math.prod(in_shape), width)
        self.second = nn.Linear(width, width)
        self.head = nn.Linear(width, num_outputs)

    def hidden(self, inputs: Tensor) -> Tensor:
        return functional.relu(self.second(functional.relu(self.first(inputs.flatten(1)))))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.hidden(inputs))
        return outputs


class Loud(Net):
    """Its last layer is initialised thirty times too large."""

    def __init__(self, in_shape: Sequence[int], num_outputs: int, width: int = 48) -> None:
        super().__init__(in_shape, num_outputs, width)
        with torch.no_grad():
            self.head.weight.mul_(30)


class Biased(Net):
    """Its last bias says that everything is of the first class."""

    def __init__(self, in_shape: Sequence[int], num_outputs: int, width: int = 48) -> None:
        super().__init__(in_shape, num_outputs, width)
        with torch.no_grad():
            self.head.bias[0] = 12.0


class Deaf(Net):
    """Learns a constant: its input is multiplied by nothing."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs * 0)


class Narrow(Net):
    """A single hidden unit for ten classes."""

    def __init__(self, in_shape: Sequence[int], num_outputs: int) -> None:
        super().__init__(in_shape, num_outputs, width=1)


class Ranked(Net):
    """Normalises over the batch, where over the features was meant."""

    def hidden(self, inputs: Tensor) -> Tensor:
        features = super().hidden(inputs)
        return (features - features.mean(dim=0)) / (features.std(dim=0) + 1e-5)


class Frozen(Net):
    """Its second layer got left out of training."""

    def __init__(self, in_shape: Sequence[int], num_outputs: int, width: int = 48) -> None:
        super().__init__(in_shape, num_outputs, width)
        self.second.requires_grad_(False)


class Detached(Net):
    """Cuts the graph between its layers."""

    def hidden(self, inputs: Tensor) -> Tensor:
        return super().hidden(inputs).detach()


class Noisy(Net):
    """Drops units in evaluation as well."""

    def hidden(self, inputs: Tensor) -> Tensor:
        return functional.dropout(super().hidden(inputs), 0.3)


class Unseeded(Net):
    """Draws its noise from a generator that nobody seeds."""

    def __init__(self, in_shape: Sequence[int], num_outputs: int, width: int = 48) -> None:
        super().__init__(in_shape, num_outputs, width)
        self.noise = np.random.default_rng()

    def hidden(self, inputs: Tensor) -> Tensor:
        features = super().hidden(inputs)
        if not self.training:
            return features
        return features + 0.1 * torch.from_numpy(self.noise.normal(size=features.shape)).to(features)


class Wired(Net):
    """Takes batches of 32 alone."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs.reshape(32, -1))


class Stacked(Net):
    """Adds to each example a little of the one before it in the batch."""

    def hidden(self, inputs: Tensor) -> Tensor:
        features = super().hidden(inputs)
        return features + 0.5 * features.roll(1, dims=0)


class Dying(Net):
    """A first bias so negative that no unit ever fires."""

    def __init__(self, in_shape: Sequence[int], num_outputs: int, width: int = 48) -> None:
        super().__init__(in_shape, num_outputs, width)
        with torch.no_grad():
            self.first.bias.fill_(-50.0)


class Fading(nn.Module):
    """Twelve layers, each of which passes a tenth of its signal on."""

    def __init__(self, in_shape: Sequence[int], num_outputs: int, width: int = 48) -> None:
        super().__init__()
        sizes = [math.prod(in_shape), *[width] * 12]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.head = nn.Linear(width, num_outputs)
        with torch.no_grad():
            for layer in self.layers:
                assert isinstance(layer, nn.Linear)
                layer.weight.mul_(0.1)
                layer.bias.zero_()

    def forward(self, inputs: Tensor) -> Tensor:
        features = inputs.flatten(1)
        for layer in self.layers:
            features = functional.relu(layer(features))
        outputs: Tensor = self.head(features)
        return outputs


class Scaled(Net):
    """Multiplies its normalised input by 255, as if it were between 0 and 1."""

    def hidden(self, inputs: Tensor) -> Tensor:
        return super().hidden(inputs * 255)


def summed(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy, but the sum of the batch."""
    return functional.cross_entropy(outputs, targets, reduction="sum")


def likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    """The negative log-likelihood of logits, which wants log-probabilities."""
    return functional.nll_loss(outputs, targets)


def clipped(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy that stops at 1, where its gradient was to be clipped."""
    return functional.cross_entropy(outputs, targets).clamp(max=1.0)


def spread(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error of every output against every target."""
    return ((outputs[:, None] - targets[None]) ** 2).mean()


class Hoarding(torch.optim.SGD):
    """Never forgets a gradient."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Do nothing."""


def of_the_head(params: Iterable[nn.Parameter], **settings: Any) -> torch.optim.Optimizer:
    """Return AdamW over the last layer alone."""
    return torch.optim.AdamW(list(params)[-2:], **settings)
