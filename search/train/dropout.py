"""Dropout whose masks are functions of a key and of the place, so that a trial's do not depend on what runs beside it.

torch's own draws from one stream for the whole process. Here the mask of a place is a hash of (trial seed, layer,
epoch, step, place), as counter-based generators have it (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011): the same on every device, and the same for a network that is trained alone or in a stack of others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from search.keyed import keyed_int

_FIRST, _SECOND = 0x7FEB352D, 0x846CA68B
_SHIFT = 15
_GOLDEN = 0x9E3779B97F4A7C15
_MOST = 2**31 - 1


def _as_int32(number: int) -> int:
    """Return the lower half of a number as an int32 has it."""
    return (number + 2**31) % 2**32 - 2**31


_ANOTHER = _as_int32(_GOLDEN)
"""What a layer's key grows by with each call in a step."""

MaskSource = Callable[[int, torch.dtype], Tensor]
"""Given a number of places and a type, returns what they are multiplied by in the next call."""


class Counted(_DropoutNd):
    """What all kinds have in common. Until it is given keys, each call draws one from torch's global generator."""

    key: Tensor
    limit: Tensor | None
    """Under `torch.func.vmap`, up to which int32 a place is kept: each network has a rate of its own. Else None."""
    scale: Tensor | None
    """Likewise, what those kept are multiplied by."""
    axes: int | None = None
    """How many axes the inputs (N, C, ...) have where whole channels are dropped; None: single elements are."""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__(p, inplace)
        self.register_buffer("key", torch.zeros((), dtype=torch.int32), persistent=False)
        self.register_buffer("limit", None, persistent=False)
        self.register_buffer("scale", None, persistent=False)
        self.keyed = False
        self.source: MaskSource | None = None
        """What makes the masks where the examples of several networks lie behind one another in a batch."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return inputs with a share `p` at 0 and the others scaled up, in training; else as they are."""
        if not self.training or (self.limit is None and self.p == 0):
            return inputs
        if self.axes is not None and inputs.ndim != self.axes:
            return super().forward(inputs)  # type: ignore[no-any-return] # without a batch, as torch takes it
        shape = inputs.shape if self.axes is None else inputs.shape[:2] + (1,) * (inputs.ndim - 2)
        mask = self._mask(shape.numel(), inputs) if self.source is None else self.source(shape.numel(), inputs.dtype)
        return inputs * mask.view(shape)

    def _mask(self, number: int, like: Tensor) -> Tensor:
        """Return what so many places are multiplied by, (number,)."""
        if self.keyed:
            hashed = hashed_places(self.key, number)
            self.key.add_(_ANOTHER)  # there are several calls in a step with micro-batches, or of one used twice
        else:
            key = torch.randint(-_MOST, _MOST, (), dtype=torch.int32)
            hashed = hashed_places(key.to(like.device), number)
        if self.limit is None or self.scale is None:
            return hashed.le(limit_of(self.p)).to(like.dtype).mul_(scale_of(self.p))
        return hashed.le(self.limit).to(like.dtype) * self.scale


class Dropout(Counted, nn.Dropout):
    """Drops single elements (Srivastava et al. 2014)."""


class Dropout1d(Counted, nn.Dropout1d):
    """Drops whole channels of series (N, C, L) (Tompson et al. 2015)."""

    axes = 3


class Dropout2d(Counted, nn.Dropout2d):
    """Drops whole channels of pictures (N, C, H, W)."""

    axes = 4


class Dropout3d(Counted, nn.Dropout3d):
    """Drops whole channels of volumes (N, C, D, H, W)."""

    axes = 5


_OURS: dict[type[nn.Module], type[Counted]] = {
    nn.Dropout: Dropout,
    nn.Dropout1d: Dropout1d,
    nn.Dropout2d: Dropout2d,
    nn.Dropout3d: Dropout3d,
}


def counted(network: nn.Module) -> nn.Module:
    """Return the network with ours in place of torch's own dropout layers; subclasses of those stay what they are."""
    made: dict[nn.Module, nn.Module] = {}  # one that is used twice stays one
    for module in [network, *network.modules()]:
        if type(module) in _OURS and module not in made:
            assert isinstance(module, _DropoutNd)
            made[module] = _OURS[type(module)](module.p, module.inplace)
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if child in made:
                module._modules[name] = made[child]
    return made.get(network, network)


class Masks:
    """The keys of a network's dropout layers over one training."""

    def __init__(self, model: nn.Module, seed: int) -> None:
        self.layers = [module for module in model.modules() if isinstance(module, Counted)]
        self._seed = seed
        self._epoch = (0, 0)
        self._keys: list[list[int]] | None = None

    def begin(self, epoch: int, steps: int) -> None:
        """Take in which epoch begins, and how many steps it has."""
        self._epoch, self._keys = (epoch, steps), None
        for layer in self.layers:
            layer.keyed = True

    def step(self, number: int) -> None:
        """Give each layer its key of a step of the epoch, counted from 0."""
        if self._keys is None:  # a stack makes those of all its networks by itself
            self._keys = [keys.tolist() for keys in self.keys(*self._epoch)]
        for layer, keys in zip(self.layers, self._keys, strict=True):
            layer.key.fill_(keys[number])

    def keys(self, epoch: int, steps: int) -> list[np.ndarray[tuple[int], np.dtype[np.int32]]]:
        """Return the keys of all steps of an epoch, int32 (steps,), for each layer."""
        firsts = (keyed_int(self._seed, "dropout", layer, epoch) for layer in range(len(self.layers)))
        return [_mixed(np.arange(steps, dtype=np.uint64) + np.uint64(first)) for first in firsts]


def hashed_places(keys: Tensor, number: int) -> Tensor:
    """Return an int32 for each of so many places and each key, (*keys.shape, number), every value being as likely."""
    found = _places(1 << (number - 1).bit_length(), keys.device)[:number] ^ keys.unsqueeze(-1)
    found.mul_(_FIRST)
    found.bitwise_xor_((found >> _SHIFT).bitwise_and_(_MOST >> (_SHIFT - 1)))
    return found.mul_(_as_int32(_SECOND))


def key_of_call(keys: Tensor, number: int) -> Tensor:
    """Return the keys of a step's call of that number, counted from 0, from those of its first."""
    return keys + _as_int32(number * _GOLDEN) if number else keys


@lru_cache(maxsize=32)
def _places(number: int, device: torch.device) -> Tensor:
    """Return a hash of each place, int32 (number,), which all layers and trials share: fewer are the first of more."""
    return torch.from_numpy(_mixed(np.arange(number, dtype=np.uint64))).to(device)


def limit_of(rate: float) -> int:
    """Return up to which int32 a place is kept, all of them being as likely."""
    return min(round((1 - rate) * 2**32) - 2**31, _MOST)


def scale_of(rate: float) -> float:
    """Return what those kept are multiplied by, so that the mean stays what it is."""
    return 1 / (1 - rate) if rate < 1 else 0.0


def _mixed(values: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Return a hash of each number: the finaliser of SplitMix64 (Steele et al. 2014), its upper half."""
    with np.errstate(over="ignore"):
        found = values * np.uint64(_GOLDEN)
        found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    upper: np.ndarray[tuple[int], np.dtype[np.int32]] = (found >> np.uint64(32)).astype(np.uint32).view(np.int32)
    return upper
