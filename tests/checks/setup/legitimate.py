"""Networks, losses and optimisers that are unusual, and sound."""

import math
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.checks.setup.parts import Shape, net


class Steps(nn.Module):
    """A recurrent network written by hand, over the rows of a picture."""

    def __init__(self, in_shape: Shape, num_outputs: int) -> None:
        super().__init__()
        self.wx, self.wh = nn.Linear(in_shape[-1], 24), nn.Linear(24, 24)
        self.head = nn.Linear(24, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        x = inputs.flatten(1, -2)
        h = x.new_zeros(len(x), 24)
        for t in range(x.shape[1]):
            h = torch.tanh(self.wx(x[:, t]) + self.wh(h))
        outputs: Tensor = self.head(h)
        return outputs


class Perceiver(nn.Module):
    """Asks the rows of a picture with queries that it learns."""

    def __init__(self, in_shape: Shape, num_outputs: int) -> None:
        super().__init__()
        self.asked = nn.Parameter(torch.randn(4, 16))
        self.query, self.key, self.value = nn.Linear(16, 16), nn.Linear(in_shape[-1], 16), nn.Linear(in_shape[-1], 16)
        self.head = nn.Linear(16, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        rows = inputs.flatten(1, -2)
        asked = self.query(self.asked.expand(len(rows), -1, -1))
        found = functional.scaled_dot_product_attention(asked, self.key(rows), self.value(rows))
        outputs: Tensor = self.head(found.mean(dim=1))
        return outputs


class Bounded(nn.Module):
    """Gives logits between -scale and scale."""

    def __init__(self, in_shape: Shape, num_outputs: int, scale: float) -> None:
        super().__init__()
        self.body, self.scale = net(in_shape, num_outputs), scale

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.scale * torch.tanh(self.body(inputs))
        return outputs


class Centred(nn.Module):
    """Takes the batch's mean off its outputs: no sound network, but one that cannot be judged by its examples."""

    def __init__(self, in_shape: Shape, num_outputs: int) -> None:
        super().__init__()
        self.body = net(in_shape, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.body(inputs)
        return outputs - outputs.mean(dim=0)


class Pooler(nn.Module):
    """Has a layer that another task needs."""

    def __init__(self, in_shape: Shape, num_outputs: int) -> None:
        super().__init__()
        self.body, self.pooler = net(in_shape, num_outputs, width=64), nn.Linear(16, 16)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.body(inputs)
        return outputs


class Experts(nn.Module):
    """Sends each example to the one of many experts that a gate prefers."""

    def __init__(self, in_shape: Shape, num_outputs: int, number: int = 16) -> None:
        super().__init__()
        size = math.prod(in_shape)
        self.gate, self.head = nn.Linear(size, number), nn.Linear(32, num_outputs)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(size, 32), nn.ReLU()) for _ in range(number))
        with torch.no_grad():
            self.gate.bias[:4] += 5  # some are seldom asked

    def forward(self, inputs: Tensor) -> Tensor:
        x = inputs.flatten(1)
        share, chosen = self.gate(x).softmax(dim=1).max(dim=1)
        hidden = x.new_zeros(len(x), 32)
        for i, expert in enumerate(self.experts):
            mine = (chosen == i).nonzero().squeeze(1)
            if len(mine):
                hidden = hidden.index_add(0, mine, expert(x[mine]))
        outputs: Tensor = self.head(share[:, None] * hidden)
        return outputs


class Masked(Experts):
    """Computes all experts, and counts the one of them that a gate prefers; the others' gradient is 0."""

    def forward(self, inputs: Tensor) -> Tensor:
        x = inputs.flatten(1)
        share, chosen = self.gate(x).softmax(dim=1).max(dim=1)
        hidden = torch.stack([expert(x) for expert in self.experts], dim=1)
        mask = functional.one_hot(chosen, len(self.experts)).to(x.dtype)
        outputs: Tensor = self.head(share[:, None] * (mask[:, :, None] * hidden).sum(dim=1))
        return outputs


class Backbone(nn.Module):
    """Trains a head on features that stay."""

    def __init__(self, in_shape: Shape, num_outputs: int, file: str | None = None) -> None:
        super().__init__()
        self.body = net(in_shape, 32, width=64).requires_grad_(False)
        if file is not None:
            self.body.load_state_dict(torch.load(file))
        self.head = nn.Linear(32, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(inputs).relu())
        return outputs


def spectral(in_shape: Shape, num_outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        nn.utils.spectral_norm(nn.Linear(math.prod(in_shape), 64)),
        nn.ReLU(),
        nn.utils.spectral_norm(nn.Linear(64, num_outputs)),
    )


def weight_normed(in_shape: Shape, num_outputs: int) -> nn.Sequential:
    network = net(in_shape, num_outputs)
    for layer in network:
        if isinstance(layer, nn.Linear):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # it is still in many networks
                nn.utils.weight_norm(layer)
    return network


def lazy(num_outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(32), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(num_outputs))


def warm(in_shape: Shape, num_outputs: int, file: str) -> nn.Sequential:
    network = net(in_shape, num_outputs)
    network.load_state_dict(torch.load(file))
    return network


def capped(outputs: Tensor, targets: Tensor, most: float) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none").clamp(max=most).mean()


class Biweight(nn.Module):
    """Tukey's biweight: what is 4.685 standard deviations off counts no more."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        off = ((outputs - targets) / 4.685).square().clamp(max=1.0)
        return (1 - (1 - off) ** 3).mean() * 4.685**2 / 6


class Rated(torch.optim.Optimizer):
    """Descends by a rate that has a name of its own."""

    def __init__(self, params: Iterable[Tensor], rate: float) -> None:
        super().__init__(params, {"rate": rate})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p -= group["rate"] * p.grad


class Eighth(torch.optim.SGD):
    """Steps at every eighth call alone."""

    calls = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.calls += 1
        if self.calls % 8 == 0:
            super().step(closure)


def own(name: str, **arguments: Any) -> dict[str, Any]:
    """Return the configuration of one of these parts."""
    return {"_target_": f"tests.checks.setup.legitimate.{name}", **arguments}
