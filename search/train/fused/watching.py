"""What the layers of a stack's networks do in one step: the figures of a network alone, for all at once."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator, Sequence

import torch
from torch import Tensor, nn

from search.train.diagnostics.layers import layers_of
from search.train.diagnostics.outputs import Outputs
from search.train.diagnostics.weights import Weights
from search.train.fused.storage import Storage, network_of
from search.train.loop import Training


class Watch:
    """Looks into one step."""

    def __init__(self, members: Sequence[Training], storage: Storage, served: dict[str, str]) -> None:
        """Hold the weights as they are before the step; for `served` see `Outputs`."""
        self._members, self._storage = members, storage
        self._outputs = Outputs(served)
        self._before = storage.weights.clone()
        self._seen: list[tuple[Tensor, Tensor]] = []

    @contextlib.contextmanager
    def hooked(self, network: nn.Module, networks: int | None = None) -> Iterator[None]:
        """Have what the network's layers give looked at within; for `networks` see `Outputs`."""
        self._outputs.networks = networks
        handles = list(self._outputs.hooked(layers_of(network)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def taken(self) -> tuple[Tensor, Tensor]:
        """Return what was seen, (F,) and (U,) within the run of one network, else (M, F) and (M, U)."""
        return self._outputs.taken()

    def keep(self, seen: tuple[Tensor, Tensor]) -> None:
        """Hold what was seen of all networks, (M, F) and (M, U)."""
        self._seen.append(seen)

    def close(self, gradients: Tensor, failed: Container[int]) -> None:
        """Tell the members' diaries of the step and its gradients (M, P), but those of the failed."""
        if self._outputs.failure is None:
            numbers, living = (torch.cat(parts, dim=1) for parts in zip(*self._seen, strict=True))
            outputs = list(self._outputs.each(numbers, living))
        else:
            outputs = [Outputs({}) for _ in self._members]
        compared = self._compared(gradients)
        for row, (member, of_member, figures) in enumerate(zip(self._members, outputs, compared, strict=True)):
            if member.diary is not None and row not in failed:
                member.diary.given(member.step, of_member, figures)

    def _compared(self, gradients: Tensor) -> Tensor:
        """Return the figures of `Before.compared`, (M, 8, L) for L parameters in the order of `Weights`."""
        storage = self._storage
        matrices = (storage.weights, self._before, storage.weights - self._before, gradients)
        pieces = [[piece.reshape(len(piece), -1) for piece in storage.split(matrix)] for matrix in matrices]
        now, given = pieces[0], pieces[-1]
        rows = [[piece.norm(dim=1) for piece in row] for row in pieces]
        rows.append([piece.count_nonzero(dim=1) for piece in given])
        rows += [[piece.mean(dim=1) for piece in now], [p.amin(dim=1) for p in now], [p.amax(dim=1) for p in now]]
        found = torch.stack([torch.stack([figure.float() for figure in row], dim=1) for row in rows], dim=1)
        return found[:, :, self._order()]

    def _order(self) -> list[int]:
        model = self._members[0].model
        places = {id(p): i for i, p in enumerate(network_of(self._members[0]).parameters())}
        return [places[id(p)] for p in Weights(layers_of(model)).parameters]
