"""A dropout layer of a stack: each network's rate, keys and masks, those of several steps made at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from search.train.dropout import Counted, hashed_places, key_of_call, limit_of, scale_of

_AT_ONCE = 2**18
"""Places of masks that are made at once: a few steps' of small layers, which would take longer one by one."""


@dataclass(frozen=True)
class _Block:
    """Masks (steps, M * places) of a call, from step `first` of the epoch on."""

    first: int
    masks: Tensor


class Drops:
    """Where networks side by side have one batch, it is the source of their masks; under vmap it holds the keys."""

    def __init__(self, layer: Counted, place: int, rates: Sequence[float], like: Tensor) -> None:
        """`place` is the layer's among those of a network; weights are of the type and on the device of `like`."""
        self.layer, self.place = layer, place
        self.limits = torch.tensor([limit_of(rate) for rate in rates], dtype=torch.int32, device=like.device)
        """Up to which int32 a place is kept, (M,)."""
        self.scales = like.new_tensor([scale_of(rate) for rate in rates])
        """What those kept are multiplied by, (M,)."""
        self._keys = torch.zeros(0, len(rates), dtype=torch.int32)
        self.most_steps: int | None = None
        """Of how many steps masks are made at once, at most."""
        self._step, self._calls = 0, 0
        self._blocks: dict[int, _Block] = {}
        self._held: Tensor | None = None

    def begin(self, keys: Tensor) -> None:
        """Take the keys of an epoch, int32 (steps, M)."""
        self._keys, self._blocks = keys, {}

    def step(self, number: int) -> None:
        """Take in which step of the epoch begins."""
        self._step, self._calls, self._held = number, 0, None

    def held(self) -> Tensor:
        """Return the keys of this step's first call, (M,), for a layer that counts its calls in them."""
        if self._held is None:
            self._held = self._keys[self._step].clone()
        return self._held

    def next_keys(self) -> Tensor:
        """Return the keys of the next call in this step, (M,)."""
        return key_of_call(self._keys[self._step], self._calls) if self._held is None else self._held

    def __call__(self, number: int, dtype: torch.dtype) -> Tensor:
        """Return what so many places of all networks together are multiplied by in the next call, (number,)."""
        call, self._calls = self._calls, self._calls + 1
        if number > _AT_ONCE // 2:  # this step's alone, which nobody holds on to
            return self._made(call, number, dtype).masks[0]
        block = self._blocks.get(call)
        if block is None or not self._has(block, number, dtype):
            block = self._blocks[call] = self._made(call, number, dtype)
        return block.masks[self._step - block.first]

    def _has(self, block: _Block, number: int, dtype: torch.dtype) -> bool:
        """Tell whether a block has this step's mask of so many places."""
        holds = block.first <= self._step < block.first + len(block.masks)
        return holds and block.masks.shape[1] == number and block.masks.dtype == dtype

    def _made(self, call: int, number: int, dtype: torch.dtype) -> _Block:
        steps = min(max(1, _AT_ONCE // number), self.most_steps or len(self._keys))
        keys = key_of_call(self._keys[self._step : self._step + steps], call)
        kept = hashed_places(keys, number // keys.shape[1]).le(self.limits.unsqueeze(1))
        return _Block(self._step, kept.to(dtype).mul_(self.scales.to(dtype).unsqueeze(1)).flatten(1))
