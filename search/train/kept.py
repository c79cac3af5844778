"""Trains a network for a while and puts everything back: some networks cannot be copied."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def kept(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Iterator[dict[str, Tensor]]:
    """Give copies of the model's parameters and buffers by name; on leaving, it and the optimiser are as before.

    A deep copy would be simpler, but PyTorch refuses it where a weight is computed from others (`weight_norm`).
    """
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    first = {name: tensor.detach().clone() for name, tensor in held.items()}
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    state = None if optimizer is None else copy.deepcopy(optimizer.state_dict())
    try:
        yield {name: tensor.clone() for name, tensor in first.items()}
    finally:
        now = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        with torch.no_grad():
            for name, tensor in first.items():
                now[name].copy_(tensor)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, mode in modes:
            module.training = mode
        if optimizer is not None and state is not None:
            optimizer.load_state_dict(state)
