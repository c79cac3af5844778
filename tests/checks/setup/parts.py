"""Networks, losses and optimisers as users write them, with faults."""

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Shape = tuple[int, ...]


def net(in_shape: Shape, num_outputs: int, width: int = 32, depth: int = 1) -> nn.Sequential:
    """A network with torch's own initialisation."""
    sizes = [math.prod(in_shape), *[width] * depth]
    layers = [layer for pair in itertools.pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], num_outputs))


def _last(network: nn.Sequential) -> Any:
    return network[-1]


def biased(in_shape: Shape, num_outputs: int, value: float) -> nn.Sequential:
    network = net(in_shape, num_outputs)
    nn.init.zeros_(_last(network).bias)
    _last(network).bias.data[0] = value
    return network


def shifted(in_shape: Shape, num_outputs: int) -> nn.Sequential:
    network = net(in_shape, num_outputs)
    nn.init.constant_(_last(network).bias, 5.0)
    return network


def large_head(in_shape: Shape, num_outputs: int) -> nn.Sequential:
    network = net(in_shape, num_outputs)
    nn.init.normal_(_last(network).weight, std=2.0)
    return network


def vanishing(in_shape: Shape, num_outputs: int, std: float) -> nn.Sequential:
    network = net(in_shape, num_outputs, depth=6)
    for layer in network:
        if isinstance(layer, nn.Linear) and layer is not network[-1]:
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
    return network


def dead(in_shape: Shape, num_outputs: int) -> nn.Sequential:
    network = net(in_shape, num_outputs)
    nn.init.constant_(network.get_parameter("1.bias"), -30.0)
    return network


def softmax(in_shape: Shape, num_outputs: int) -> nn.Sequential:
    return nn.Sequential(net(in_shape, num_outputs), nn.Softmax(dim=1))


def log_softmax(in_shape: Shape, num_outputs: int) -> nn.Sequential:
    return nn.Sequential(net(in_shape, num_outputs), nn.LogSoftmax(dim=1))


def sigmoid(in_shape: Shape, num_outputs: int) -> nn.Sequential:
    return nn.Sequential(net(in_shape, num_outputs), nn.Sigmoid())


def batch_norm(in_shape: Shape, num_outputs: int) -> nn.Sequential:
    size = math.prod(in_shape)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(size, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, num_outputs)
    )


def zero_head(in_shape: Shape, num_outputs: int) -> nn.Sequential:
    network = net(in_shape, num_outputs)
    nn.init.zeros_(_last(network).weight)
    nn.init.zeros_(_last(network).bias)
    return network


def frozen(in_shape: Shape, num_outputs: int) -> nn.Sequential:
    network = net(in_shape, num_outputs, depth=2)
    network[3].requires_grad_(False)
    return network


def rectified(in_shape: Shape, num_outputs: int) -> nn.Sequential:
    return nn.Sequential(net(in_shape, num_outputs), nn.ReLU())


class Single(nn.Module):
    """Computes in float32 whatever it is given."""

    def __init__(self, in_shape: Shape, num_outputs: int) -> None:
        super().__init__()
        self.body = net(in_shape, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.body(inputs.float())
        return outputs


class Recurrent(nn.Module):
    """A GRU over the rows of a picture."""

    def __init__(self, in_shape: Shape, num_outputs: int) -> None:
        super().__init__()
        self.gru = nn.GRU(in_shape[-1], 24, batch_first=True)
        self.head = nn.Linear(24, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.gru(inputs.flatten(1, -2))[0][:, -1])
        return outputs


class Attention(nn.Module):
    """A transformer over the rows of a picture."""

    def __init__(self, in_shape: Shape, num_outputs: int) -> None:
        super().__init__()
        self.embed = nn.Linear(in_shape[-1], 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
        self.head = nn.Linear(32, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.layer(self.embed(inputs.flatten(1, -2))).mean(dim=1))
        return outputs


class Noisy(nn.Module):
    """Draws from a generator that nothing seeds."""

    def __init__(self, in_shape: Shape, num_outputs: int) -> None:
        super().__init__()
        self.body = net(in_shape, num_outputs)
        self.random = np.random.default_rng()

    def forward(self, inputs: Tensor) -> Tensor:
        noise = self.random.standard_normal(tuple(inputs.shape)).astype(np.float32) if self.training else 0.0
        outputs: Tensor = self.body(inputs + 0.1 * torch.as_tensor(noise))
        return outputs


class Constant(nn.Module):
    """Ignores its input."""

    def __init__(self, in_shape: Shape, num_outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(1, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(torch.ones(len(inputs), 1, device=inputs.device))
        return outputs


class Listed(nn.Module):
    """Keeps its hidden layers in a list, where nobody finds them."""

    def __init__(self, in_shape: Shape, num_outputs: int) -> None:
        super().__init__()
        self.hidden = [nn.Linear(math.prod(in_shape), 32)]
        self.head = nn.Linear(32, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        x = inputs.flatten(1)
        for layer in self.hidden:
            x = layer(x).relu()
        outputs: Tensor = self.head(x)
        return outputs


class Unused(nn.Module):
    """Has a layer that forward leaves out, or detaches what it gives."""

    def __init__(self, in_shape: Shape, num_outputs: int, detach: bool) -> None:
        super().__init__()
        self.first = nn.Linear(math.prod(in_shape), 32)
        self.second = nn.Linear(32, 32)
        self.head = nn.Linear(32, num_outputs)
        self._detach = detach

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.first(inputs.flatten(1)).relu()
        if self._detach:
            x = self.second(x).relu().detach()
        outputs: Tensor = self.head(x)
        return outputs


class _Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope: Tensor = 1 - x.tanh()  # the square is missing
        return gradients[0] * slope


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class Custom(nn.Module):
    """Has a function of its own, with a wrong backward or a straight-through one."""

    def __init__(self, in_shape: Shape, num_outputs: int, straight: bool) -> None:
        super().__init__()
        self.first = nn.Linear(math.prod(in_shape), 32)
        self.head = nn.Linear(32, num_outputs)
        self._straight = straight

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.first(inputs.flatten(1))
        outputs: Tensor = self.head((_Straight if self._straight else _Wrong).apply(x))
        return outputs


def summed(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="sum")


def smoothed(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, label_smoothing=0.1)


def focal(outputs: Tensor, targets: Tensor) -> Tensor:
    loss = functional.cross_entropy(outputs, targets, reduction="none")
    return ((1 - (-loss).exp()) ** 2 * loss).mean()


def twice_softmax(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.softmax(dim=1), targets)


def off_by_one(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, (targets + 1) % outputs.shape[1])


def clipped(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets).clamp(max=1.0)


def unstable(outputs: Tensor, targets: Tensor) -> Tensor:
    return -(outputs.exp() / outputs.exp().sum(dim=1, keepdim=True)).log().gather(1, targets[:, None]).mean() * 1.0


def composite(outputs: Tensor, targets: Tensor, scale: float) -> Tensor:
    loss = functional.cross_entropy(outputs, targets)
    loss += scale * outputs.square().mean()
    return loss


def broadcast(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, None] - targets).square().mean()


def flipped(outputs: Tensor, targets: Tensor) -> Tensor:
    return -functional.mse_loss(outputs, targets)


def clipped_square(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(outputs, targets).clamp(max=0.5)


def huber(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.smooth_l1_loss(outputs, targets)


def unbalanced(outputs: Tensor, targets: Tensor) -> Tensor:
    hard = functional.one_hot(targets, outputs.shape[1]).float()
    return functional.cross_entropy(outputs, targets) + 1e-5 * functional.mse_loss(outputs.softmax(dim=1), hard)


def per_class(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(outputs, functional.one_hot(targets, outputs.shape[1]).float())


class Tempered(nn.Module):
    """Has a temperature that it means to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs * self.temperature, targets)


class Stuck(torch.optim.SGD):
    """Forgets to step the first parameter."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        first = self.param_groups[0]["params"][0]
        kept = first.detach().clone()
        super().step(closure)
        with torch.no_grad():
            first.copy_(kept)


class HeadOnly(torch.optim.SGD):
    """Takes the last two parameters alone."""

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        super().__init__(list(params)[-2:], lr=lr)


class Copies(torch.optim.SGD):
    """Takes copies of the parameters."""

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        super().__init__([p.detach().clone().requires_grad_(True) for p in params], lr=lr)


class Hoarder(torch.optim.SGD):
    """Never clears a gradient."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        pass


def part(name: str, **arguments: Any) -> Mapping[str, Any]:
    """Return the configuration of one of these parts."""
    return {"_target_": f"tests.checks.setup.parts.{name}", **arguments}
