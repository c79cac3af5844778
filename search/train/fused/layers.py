"""PyTorch's layers for networks side by side: examples (M * N, ...) of all, each network's in a row, its own weights.

A network's code is run once on the examples of all networks, as if they were one batch; only layers that have weights,
or that look at a whole batch, know whose example is whose. That spares what `torch.func.vmap` takes for each operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from search.train.dropout import Counted


@dataclass
class Given:
    """What the layers of a stack look up at each call: weights and buffers by name, (M, *shape)."""

    number: int
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


class _Layer(nn.Module):
    """A layer that takes its weights from `given`, under its own name and a dot."""

    given: Given
    at: str

    def of(self, name: str) -> Tensor | None:
        """Return a weight or buffer of all networks; None where it has none."""
        return self.given.tensors.get(self.at + name)

    def apart(self, inputs: Tensor) -> Tensor:
        """Return examples (M * N, ...) as (M, N, ...)."""
        return inputs.reshape(self.given.number, -1, *inputs.shape[1:])

    def beside(self, inputs: Tensor) -> Tensor:
        """Return examples (M * N, C, ...) as (N, M * C, ...): the channels of all networks side by side."""
        return self.apart(inputs).transpose(0, 1).flatten(1, 2)

    def back(self, outputs: Tensor) -> Tensor:
        """Return (N, M * C, ...) as (M * N, C, ...)."""
        apart = outputs.view(len(outputs), self.given.number, -1, *outputs.shape[2:])
        return apart.transpose(0, 1).flatten(0, 1)


class Linear(_Layer, nn.Linear):
    """Of inputs (M * N, ..., F)."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch has it
        """Return one batched product."""
        weight, bias = self.of("weight"), self.of("bias")
        assert weight is not None
        found = torch.bmm(self.apart(input).flatten(1, -2), weight.transpose(1, 2))
        if bias is not None:
            found.add_(bias.unsqueeze(1))  # baddbmm takes longer: it writes the bias to each row before
        return found.view(*input.shape[:-1], self.out_features)


class _Convolution(_Layer):
    """As groups of channels of one convolution."""

    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return (M * N, out_channels, ...)."""
        weight, bias = self.of("weight"), self.of("bias")
        assert weight is not None
        found = {3: functional.conv1d, 4: functional.conv2d}[input.ndim](
            self.beside(input),
            weight.flatten(0, 1),
            None if bias is None else bias.flatten(),
            self.stride,
            self.padding,
            self.dilation,
            self.groups * self.given.number,
        )
        return self.back(found)


class Conv1d(_Convolution, nn.Conv1d):
    """Of series (M * N, C, L)."""


class Conv2d(_Convolution, nn.Conv2d):
    """Of pictures (M * N, C, H, W)."""


class _BatchNorm(_Layer):
    """Each network's statistics are of its own examples."""

    momentum: float | None
    eps: float

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return the examples normalised."""
        mean, variance, seen = (self.of(name) for name in ("running_mean", "running_var", "num_batches_tracked"))
        assert mean is not None
        assert variance is not None
        if self.training and seen is not None:
            seen.add_(1)
        weight, bias = self.of("weight"), self.of("bias")
        assert self.momentum is not None
        found = functional.batch_norm(
            self.beside(input),
            mean.view(-1),
            variance.view(-1),
            None if weight is None else weight.flatten(),
            None if bias is None else bias.flatten(),
            self.training,
            self.momentum,
            self.eps,
        )
        return self.back(found)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """Of features (M * N, C) or series (M * N, C, L)."""


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """Of pictures (M * N, C, H, W)."""


class LayerNorm(_Layer, nn.LayerNorm):
    """Of the last axes of (M * N, ...)."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return each example normalised, times its network's weights."""
        found = self.apart(functional.layer_norm(input, self.normalized_shape, None, None, self.eps))
        weight, bias = self.of("weight"), self.of("bias")
        between = (1,) * (found.ndim - 1 - len(self.normalized_shape))
        if weight is not None:
            found = found * weight.view(len(weight), *between, *self.normalized_shape)
        if bias is not None:
            found = found + bias.view(len(bias), *between, *self.normalized_shape)
        return found.flatten(0, 1)


_OURS: dict[type[nn.Module], type[_Layer]] = {
    nn.Linear: Linear,
    nn.Conv1d: Conv1d,
    nn.Conv2d: Conv2d,
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.LayerNorm: LayerNorm,
}
_ACROSS = (nn.modules.batchnorm._NormBase, nn.RNNBase, nn.MultiheadAttention)
"""What looks at more than one example, or has a way of its own with the axes, whether it has weights or not."""


def side_by_side(network: nn.Module, given: Given) -> bool:
    """Have a network's layers take their weights from `given`; False, with nothing changed, where some cannot."""
    layers = [(name, module) for name, module in network.named_modules() if not isinstance(module, Counted)]
    if not all(_knows(module) for _, module in layers):
        return False
    for name, module in layers:
        if type(module) in _OURS:
            module.__class__ = _OURS[type(module)]
            assert isinstance(module, _Layer)
            module.given, module.at = given, f"{name}." if name else ""
    return True


def _knows(module: nn.Module) -> bool:
    """Tell whether a layer can be run on the examples of several networks."""
    if type(module) not in _OURS:
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        return not own and not isinstance(module, _ACROSS)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return module.track_running_stats and module.momentum is not None
    return getattr(module, "padding_mode", "zeros") == "zeros" and not module._forward_hooks
