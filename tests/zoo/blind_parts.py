"""What users bring along: healthy networks, losses and optimisers, and beside each the ways in which it goes wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Shape = tuple[int, ...]


def _layers(size: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [part for part in module.modules() if isinstance(part, nn.Linear)]


# Perceptrons over flattened inputs.


class Net(nn.Module):
    """A healthy perceptron with PyTorch's own initial weights."""

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 64) -> None:
        super().__init__()
        self.body = _layers(math.prod(in_shape), width)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(inputs.flatten(1)))
        return outputs


class SoftmaxNet(Net):
    """Gives probabilities where the loss takes logits."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs).softmax(dim=1)


class LogSoftmaxNet(Net):
    """Gives log-probabilities, as NLLLoss takes them."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs).log_softmax(dim=1)


class FrozenNet(Net):
    """Has its body frozen, as it was for a fine-tuning; here the weights are fresh."""

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 64) -> None:
        super().__init__(in_shape, num_outputs, width)
        for parameter in self.body.parameters():
            parameter.requires_grad = False


class ListNet(nn.Module):
    """Keeps its hidden layers in a list, so that no optimiser ever sees them."""

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 64) -> None:
        super().__init__()
        self.layers = [nn.Linear(math.prod(in_shape), width), nn.Linear(width, width)]
        self.head = nn.Linear(width, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs.flatten(1)
        for layer in self.layers:
            hidden = layer(hidden).relu()
        outputs: Tensor = self.head(hidden)
        return outputs


class BiasedNet(Net):
    """Has a final bias that is for other data: nearly everything is class 0."""

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 64) -> None:
        super().__init__(in_shape, num_outputs, width)
        with torch.no_grad():
            self.head.bias.zero_()[0] = 6.0


class PriorNet(Net):
    """Sets its final bias to the log-odds of the rare class, which the search has added already."""

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 64, share: float = 0.5) -> None:
        super().__init__(in_shape, num_outputs, width)
        with torch.no_grad():
            self.head.bias.zero_()[1] = math.log(share / (1 - share))


class DeadNet(Net):
    """Starts with biases so low that no unit ever fires."""

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 64) -> None:
        super().__init__(in_shape, num_outputs, width)
        for layer in _linears(self.body):
            nn.init.normal_(layer.bias, mean=-10.0, std=0.5)


class ZeroNet(Net):
    """Starts with all weights zero."""

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 64) -> None:
        super().__init__(in_shape, num_outputs, width)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


class NormalNet(Net):
    """Starts with weights from N(0, 1), whatever a layer's width."""

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 64) -> None:
        super().__init__(in_shape, num_outputs, width)
        for layer in _linears(self):
            nn.init.normal_(layer.weight)
            nn.init.zeros_(layer.bias)


class EnlargingNet(Net):
    """Undoes a division by 255 that nobody made."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs * 255.0)


class ShrinkingNet(Net):
    """Normalises as for bytes what is normalised already: every input is nearly the same."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward((inputs / 255.0 - 0.1307) / 0.3081)


class DropoutNet(Net):
    """Has dropout where it belongs."""

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = functional.dropout(self.body(inputs.flatten(1)), 0.3, training=self.training)
        outputs: Tensor = self.head(hidden)
        return outputs


class DroppingNet(Net):
    """Drops units in evaluation as well: the function's default is training=True."""

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(functional.dropout(self.body(inputs.flatten(1)), 0.3))
        return outputs


class NoiseNet(Net):
    """Adds a little noise to its inputs in training."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs + 0.1 * torch.randn_like(inputs) if self.training else inputs)


class UnseededNet(Net):
    """Adds noise of a generator of its own, which nothing seeds."""

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 64) -> None:
        super().__init__(in_shape, num_outputs, width)
        self.generator = np.random.default_rng()

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            noise = self.generator.normal(0.0, 0.1, tuple(inputs.shape))
            inputs = inputs + torch.as_tensor(noise, dtype=inputs.dtype, device=inputs.device)
        return super().forward(inputs)


class ErasingNet(Net):
    """Erases all but one small patch of every picture in training: hardly a digit can be told by it."""

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            number, _, height, width = inputs.shape
            kept = torch.zeros_like(inputs)
            for i in range(number):
                top, left = int(torch.randint(height - 1, ())), int(torch.randint(width - 1, ()))
                kept[i, :, top : top + 2, left : left + 2] = inputs[i, :, top : top + 2, left : left + 2]
            inputs = kept
        return super().forward(inputs)


class MixingNet(Net):
    """Mixes up pictures in training but not their labels: half of mixup (Zhang et al. 2018)."""

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            inputs = 0.5 * inputs + 0.5 * inputs[torch.randperm(len(inputs))]
        return super().forward(inputs)


class AttendedNet(Net):
    """Weighs its hidden units by an attention of the example's own."""

    axis = 1

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.body(inputs.flatten(1))
        outputs: Tensor = self.head(hidden * (1 + hidden.softmax(dim=self.axis)))
        return outputs


class BatchAttendedNet(AttendedNet):
    """Takes that softmax over the batch."""

    axis = 0


class DeafNet(Net):
    """Feeds its layers a buffer that it forgot to fill."""

    def forward(self, inputs: Tensor) -> Tensor:
        features = torch.zeros_like(inputs)
        return super().forward(features)


class SqueezingNet(Net):
    """Squeezes its outputs, so that a single example loses its dimension."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs).squeeze(0)


class _Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return inputs * inputs.sigmoid()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (inputs,) = ctx.saved_tensors
        share = inputs.sigmoid()
        grad: Tensor = grads[0] * (share + inputs * share * (1 - share))
        return grad


class _WrongSwish(_Swish):
    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (inputs,) = ctx.saved_tensors
        share = inputs.sigmoid()
        grad: Tensor = grads[0] * share * (1 - share)  # the logistic function's derivative, not that of x times it
        return grad


class Swish(nn.Module):
    """x * sigmoid(x) with a backward pass by hand."""

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = _Swish.apply(inputs)
        return outputs


class WrongSwish(nn.Module):
    """The same with a wrong backward pass."""

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = _WrongSwish.apply(inputs)
        return outputs


class SwishNet(nn.Module):
    """A perceptron with a hand-made activation."""

    activation: type[nn.Module] = Swish

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 64) -> None:
        super().__init__()
        self.first = nn.Linear(math.prod(in_shape), width)
        self.second = nn.Linear(width, width)
        self.swish = self.activation()
        self.head = nn.Linear(width, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.swish(self.second(self.swish(self.first(inputs.flatten(1)))))
        outputs: Tensor = self.head(hidden)
        return outputs


class WrongSwishNet(SwishNet):
    """The same with the wrong one."""

    activation = WrongSwish


# Convolutional networks over pictures.


class PictureNet(nn.Module):
    """Two convolutions with batch norm, averaged over the picture."""

    norm: ClassVar[dict[str, Any]] = {}

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_shape[0], width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width, **self.norm),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width, **self.norm),
            nn.ReLU(),
        )
        self.head = nn.Linear(2 * width, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(inputs).mean(dim=(2, 3)))
        return outputs


class LaggingNormNet(PictureNet):
    """Lets its running statistics follow so slowly (Keras's 0.999 is 0.001 here) that evaluation never gets them."""

    norm: ClassVar[dict[str, Any]] = {"momentum": 0.001}


class BatchNormNet(PictureNet):
    """Never leaves the batch's statistics, in evaluation neither."""

    norm: ClassVar[dict[str, Any]] = {"track_running_stats": False}


class CentredNet(PictureNet):
    """Takes the mean of each row of a picture off that row."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs - 0.5 * inputs.mean(dim=3).unsqueeze(3))


class MiscentredNet(PictureNet):
    """Takes the mean of row i off column i, which only a square picture lets pass."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs - 0.5 * inputs.mean(dim=3).unsqueeze(2))


# Networks over series (N, C, L).


class Recurrent(nn.Module):
    """A GRU, averaged over the steps."""

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 24) -> None:
        super().__init__()
        self.cell = nn.GRU(in_shape[0], width, batch_first=True)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.cell(inputs.transpose(1, 2))
        outputs: Tensor = self.head(states.mean(dim=1))
        return outputs


class ViewedRecurrent(nn.Module):
    """Wants steps first and takes `reshape` for `permute`: a step holds values of several examples."""

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 24) -> None:
        super().__init__()
        self.cell = nn.GRU(in_shape[0], width)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        number, channels, steps = inputs.shape
        states, _ = self.cell(inputs.reshape(steps, number, channels))
        outputs: Tensor = self.head(states.mean(dim=0))
        return outputs


class LongMemory(nn.Module):
    """An LSTM, read at the last step."""

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 24) -> None:
        super().__init__()
        self.cell = nn.LSTM(in_shape[0], width, batch_first=True)
        self.head = nn.Linear(width, num_outputs)

    def read(self, states: Tensor) -> Tensor:
        """Return what of the states (N, L, width) goes on."""
        return states[:, -1]

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.cell(inputs.transpose(1, 2))
        outputs: Tensor = self.head(self.read(states))
        return outputs


class DetachedMemory(LongMemory):
    """Cuts the graph to save memory, and with it the gradient of the cell."""

    def read(self, states: Tensor) -> Tensor:
        return states[:, -1].detach()


class ForgetfulMemory(LongMemory):
    """Starts from a learned state, and reads that instead of what became of it."""

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 24) -> None:
        super().__init__(in_shape, num_outputs, width)
        self.start = nn.Parameter(0.1 * torch.randn(width))

    def forward(self, inputs: Tensor) -> Tensor:
        state = self.start.expand(1, len(inputs), -1).contiguous()
        self.cell(inputs.transpose(1, 2), (state, torch.zeros_like(state)))
        outputs: Tensor = self.head(state[0])
        return outputs


class CausalConvolution(nn.Conv1d):
    """A convolution over the steps up to its own: padded on the left."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(functional.pad(inputs, ((self.kernel_size[0] - 1) * self.dilation[0], 0)))


class CausalNet(nn.Module):
    """A temporal convolutional network (Bai et al. 2018) that may see nothing of a step's future."""

    causal = True

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            self.convolution(in_shape[0], width, 1), nn.ReLU(), self.convolution(width, width, 2), nn.ReLU()
        )
        self.head = nn.Linear(width, num_outputs)

    def convolution(self, size_in: int, size_out: int, dilation: int) -> nn.Module:
        """Return one convolution that keeps the number of steps."""
        return CausalConvolution(size_in, size_out, 5, dilation=dilation)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.body(inputs).mean(dim=2))
        return outputs


class LeakyCausalNet(CausalNet):
    """Pads on both sides, so that a step sees steps to come."""

    def convolution(self, size_in: int, size_out: int, dilation: int) -> nn.Module:
        return nn.Conv1d(size_in, size_out, 5, dilation=dilation, padding="same")


class CausalAttention(nn.Module):
    """Single-head self-attention over the steps up to each step's own: (N, L, width) -> (N, L, width)."""

    causal = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, 3 * width)

    def mask(self, steps: int) -> Tensor:
        """Return where step i (rows) may look (columns)."""
        return torch.ones(steps, steps, dtype=torch.bool).tril()

    def forward(self, inputs: Tensor) -> Tensor:
        query, key, value = self.project(inputs).chunk(3, dim=-1)
        mask = self.mask(inputs.shape[1]).to(inputs.device)
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)


class LeakyAttention(CausalAttention):
    """Takes the mask of a library where it says what is hidden for this one, where it says what is seen."""

    def mask(self, steps: int) -> Tensor:
        return torch.ones(steps, steps, dtype=torch.bool).triu()


class CausalTransformer(nn.Module):
    """One block of causal attention with learned positions."""

    causal = True
    attention: type[CausalAttention] = CausalAttention

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 24) -> None:
        super().__init__()
        channels, steps = in_shape
        self.embed = nn.Linear(channels, width)
        self.positions = nn.Parameter(0.1 * torch.randn(steps, width))
        self.attend = self.attention(width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.head = nn.Linear(width, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.embed(inputs.transpose(1, 2)) + self.positions
        hidden = hidden + self.attend(hidden)
        hidden = hidden + self.mlp(self.norm(hidden))
        outputs: Tensor = self.head(hidden.mean(dim=1))
        return outputs


class LeakyTransformer(CausalTransformer):
    """The same with the mask the wrong way round."""

    attention = LeakyAttention


class WindowNet(nn.Module):
    """Reads a series in windows of four steps: one by one for few examples, all at once for many."""

    def __init__(self, in_shape: Shape, num_outputs: int, width: int = 32) -> None:
        super().__init__()
        channels, steps = in_shape
        self.number = steps // 4
        self.layer = nn.Linear(channels * 4, width)
        self.head = nn.Linear(self.number * width, num_outputs)

    def windows(self, inputs: Tensor) -> Tensor:
        """Return all windows, (N, number, C * 4)."""
        return inputs.unfold(2, 4, 4).permute(0, 2, 1, 3).flatten(2)

    def forward(self, inputs: Tensor) -> Tensor:
        if len(inputs) < 4:
            found = torch.stack([inputs[:, :, 4 * i : 4 * i + 4].flatten(1) for i in range(self.number)], dim=1)
        else:
            found = self.windows(inputs)
        outputs: Tensor = self.head(self.layer(found).relu().flatten(1))
        return outputs


class MisreadWindowNet(WindowNet):
    """The quick way takes channels for windows; no example sees another."""

    def windows(self, inputs: Tensor) -> Tensor:
        return inputs.unfold(2, 4, 4).reshape(len(inputs), self.number, -1)


# Losses: of logits (N, C) and classes (N,), or of values (N,) and targets (N,).


def clipped_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Clip the loss where the gradient was meant."""
    return functional.cross_entropy(outputs, targets).clamp(max=1.0)


def index_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Hold every logit against the class index instead of a one-hot vector."""
    return (outputs - targets[:, None].float()).square().mean()


def one_hot_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the Brier score."""
    wanted = functional.one_hot(targets, outputs.shape[1])
    return (outputs.softmax(dim=1) - wanted).square().sum(dim=1).mean()


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error."""
    return (outputs - targets).square().mean()


def broadcast_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Hold every output against every target: (N, 1) less (N,) is (N, N)."""
    return (outputs.view(-1, 1) - targets).square().mean()


class Confidence(nn.Module):
    """The mean square of the logits."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.square().mean()


class Composite(nn.Module):
    """Cross-entropy with a penalty on large logits."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.entropy, self.penalty, self.weight = nn.CrossEntropyLoss(), Confidence(), weight

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        total: Tensor = self.entropy(outputs, targets) + self.weight * self.penalty(outputs, targets)
        return total


# Optimisers, called with a model's parameters.


def head_only(params: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Train the last layer alone."""
    return torch.optim.Adam(list(params)[-2:], lr=lr)


def of_copies(params: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Train copies of the weights that no network uses."""
    return torch.optim.Adam([p.detach().clone().requires_grad_() for p in params], lr=lr)
