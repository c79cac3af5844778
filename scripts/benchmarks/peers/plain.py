"""A trial as one writes it in plain PyTorch: the same networks, data, batches, optimiser and schedule as ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Data:
    """Pictures (N, 1, H, W), standardised by those to train with, and their classes."""

    train: Tensor
    train_classes: Tensor
    validation: Tensor
    validation_classes: Tensor


def load(path: str) -> Data:
    """Read what the benchmark wrote: all inputs and targets, and which are for what."""
    with np.load(path) as arrays:
        inputs = torch.from_numpy(arrays["inputs"].astype(np.float32))
        targets = torch.from_numpy(arrays["targets"])
        train, validation = (torch.from_numpy(arrays[name]) for name in ("train", "validation"))
    of_train = inputs[train]
    inputs = (inputs - of_train.mean()) / of_train.std()
    return Data(inputs[train], targets[train], inputs[validation], targets[validation])


def mlp(width: int, dropout: float, depth: int = 2, size: int = 64, classes: int = 10) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(depth):
        layers += [nn.Linear(size, width), nn.ReLU(), nn.Dropout(dropout)]
        size = width
    return nn.Sequential(*layers, nn.Linear(size, classes))


def cnn(channels: int, dropout: float, blocks: int = 2, kernel: int = 3, classes: int = 10) -> nn.Module:
    layers: list[nn.Module] = []
    size = 1
    for block in range(blocks):
        if block:
            layers += [nn.MaxPool2d(2, ceil_mode=True), nn.Dropout2d(dropout)]
        width = channels * 2**block
        for _ in range(2):
            layers += [nn.Conv2d(size, width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(width)]
            layers.append(nn.ReLU())
            size = width
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, *pooled, nn.Linear(size, classes))


NETWORKS: Mapping[str, Callable[..., nn.Module]] = {"mlp": mlp, "cnn": cnn}


def factor(step: int, steps: int, warmup: float) -> float:
    """Return what the learning rate is multiplied by in a step, from 0 on: a straight rise, then half a cosine."""
    rise = round(warmup * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    return (1 + math.cos(math.pi * (step - rise) / (steps - rise))) / 2


class Training:
    """One trial; `settings` are those of network (`model.*`), optimiser and schedule by their paths."""

    def __init__(self, data: Data, network: str, settings: Mapping[str, Any], epochs: int, batch_size: int) -> None:
        of_network = {k.removeprefix("model."): v for k, v in settings.items() if k.startswith("model.")}
        self._data, self._batch_size = data, batch_size
        self._model = NETWORKS[network](**of_network)
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(), lr=settings["optimizer.lr"], weight_decay=settings["optimizer.weight_decay"]
        )
        steps, warmup = epochs * math.ceil(len(data.train) / batch_size), settings["schedule.warmup"]
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer,
            lambda step: factor(min(step, steps - 1), steps, warmup),
        )

    def epoch(self) -> dict[str, float]:
        """Train an epoch, validate, return the figures."""
        data, total = self._data, torch.zeros(())
        self._model.train()
        for chosen in torch.randperm(len(data.train)).split(self._batch_size):
            self._optimizer.zero_grad()
            loss = functional.cross_entropy(self._model(data.train[chosen]), data.train_classes[chosen])
            loss.backward()
            self._optimizer.step()
            self._schedule.step()
            total += loss.detach() * len(chosen)
        self._model.eval()
        with torch.no_grad():
            outputs = self._model(data.validation)
        right = (outputs.argmax(dim=1) == data.validation_classes).float().mean()
        return {
            "objective": float(right),
            "val_loss": float(functional.cross_entropy(outputs, data.validation_classes)),
            "train_loss": float(total) / len(data.train),
            "train_lr": self._schedule.get_last_lr()[0],
        }
