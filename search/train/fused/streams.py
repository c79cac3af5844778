"""Augmentation in a stack: each network's batch is changed as it would be alone, by draws of a stream of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from search.train.augment import Mixed
from search.train.loop import Training


class Streams:
    """The states of torch's generators, one for each network; nothing where no network has an augmentation."""

    def __init__(self, members: Sequence[Training]) -> None:
        self._augments = [member.rules.augment for member in members]
        self.active = any(augment is not None for augment in self._augments)
        self._states: dict[int, list[Tensor]] = {}

    def begin(self, row: int) -> None:
        """Keep the stream as it is for a network, behind the start of its epoch."""
        if self._augments[row] is not None:
            self._states[row] = _states()

    def changed(self, inputs: Tensor) -> tuple[Tensor, list[Mixed | None]]:
        """Return standardised inputs (M, N, *shape) as the networks' augmentations change them, and who was mixed."""
        found, mixed = [], []
        for row, augment in enumerate(self._augments):
            given, one = inputs[row], None
            if augment is not None:
                _restore(self._states[row])
                given, one = augment(given)
                self._states[row] = _states()
            found.append(given)
            mixed.append(one)
        return torch.stack(found), mixed


def partners_of(mixed: Sequence[Mixed | None], targets: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return who is mixed with whom (M, N), their shares (M,) and in which networks (M,); None where nobody is."""
    if not any(mixed):
        return None
    itself = torch.arange(targets.shape[1], device=targets.device)
    partners = torch.stack([itself if one is None else one.partners for one in mixed])
    shares = torch.stack([like.new_ones(()) if one is None else one.share.to(like) for one in mixed])
    return partners, shares, torch.tensor([one is not None for one in mixed], device=like.device)


def _states() -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else states  # type: ignore[no-untyped-call]


def _restore(states: Sequence[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1])
