"""Where the weights of a stack lie: side by side, and each network of it looks at its own row.

So whatever a training does with its network and its optimiser's state (keeping the best weights, writing a checkpoint,
looking into a layer) it does with what the stack has made of them, and it can leave with them at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from search.train.average import Average
from search.train.dropout import Counted
from search.train.estimator import Estimator
from search.train.fused.optimizers import KINDS, STATE, Part
from search.train.loop import Training


def network_of(member: Training) -> nn.Module:
    """Return a member's network, without what is before and behind it."""
    assert isinstance(member.model, Estimator)
    return member.model.network


def kind_of(member: Training) -> int:
    """Return by what members are sorted: those with one kind of optimiser are neighbours."""
    return KINDS.index(type(member.optimizer))


class Storage:
    """Rows for networks of one form, in the order of `members`, which is that of `kind_of`."""

    def __init__(self, members: Sequence[Training]) -> None:
        """Copy what the members have, and have them look at the copy."""
        self._members = members
        networks = [network_of(member) for member in members]
        self._shapes = {name: p.shape for name, p in networks[0].named_parameters()}
        self.sizes = [shape.numel() for shape in self._shapes.values()]
        self.weights = torch.stack([_row([p.detach() for p in network.parameters()]) for network in networks])
        """All weights, (M, P)."""
        self.parameters = {name: column.detach().requires_grad_() for name, column in self._columns(self.weights)}
        """The same by name, (M, *shape): windows that gradients can be asked for."""
        self.gradients = torch.zeros_like(self.weights)
        """Those of the last step, (M, P)."""
        self._of_parameters = self.split(self.gradients)
        self.buffers = {
            name: torch.stack([network.get_buffer(name) for network in networks])
            for name, _ in networks[0].named_buffers()
            if not isinstance(networks[0].get_submodule(name.rpartition(".")[0]), Counted)
        }
        self.parts = list(self._parts())
        self.averages = _Averages(self, members) if any(member.average for member in members) else None
        for network, row in zip(networks, range(len(members)), strict=True):
            self._show(network, row)
            self.settle(row)

    def settle(self, row: int) -> None:
        """Leave in a member's optimiser what windows do not show: how many steps it took up to the epoch's end."""
        member = self._members[row]
        if isinstance(member.optimizer, torch.optim.SGD):  # which counts none
            return
        fused = any(group.get("fused") for group in member.optimizer.param_groups)
        device = self.weights.device if fused else None  # where torch's own has it
        for state in member.optimizer.state.values():
            state["step"] = torch.tensor(float(member.epoch * member.steps_per_epoch), device=device)

    def take(self, gradients: Sequence[Tensor], *, more: bool) -> None:
        """Put gradients (M, *shape), one for each parameter, in the place of the last ones, or add `more` to them."""
        (torch._foreach_add_ if more else torch._foreach_copy_)(self._of_parameters, list(gradients))

    def split(self, matrix: Tensor) -> list[Tensor]:
        """Return windows into the columns of a matrix (M, P), (M, *shape) for each parameter."""
        pieces = torch.split(matrix, self.sizes, dim=1)
        return [p.view(len(matrix), *shape) for p, shape in zip(pieces, self._shapes.values(), strict=True)]

    def _columns(self, matrix: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield from zip(self._shapes, self.split(matrix), strict=True)

    def _show(self, network: nn.Module, row: int) -> None:
        for parameter, column in zip(network.parameters(), self.parameters.values(), strict=True):
            parameter.data = column.detach()[row]
            parameter.grad = None
        for name, value in self.buffers.items():
            owner, _, leaf = name.rpartition(".")
            network.get_submodule(owner)._buffers[leaf] = value[row]

    def _parts(self) -> Iterator[Part]:
        first = 0
        for kind, several in groupby(self._members, kind_of):
            members = list(several)
            rows = slice(first, first + len(members))
            first += len(members)
            state = {name: self._state(members, name) for name in STATE[KINDS[kind]]}
            yield Part(members=members, rows=rows, sizes=self.sizes, state=state)

    def _state(self, members: Sequence[Training], name: str) -> Tensor:
        """Copy what the optimisers hold, nothing being 0, (m, P), and have them look at the copy."""
        rows = []
        for member in members:
            held = member.optimizer.state
            parameters = list(network_of(member).parameters())
            rows.append(_row([held[p].get(name, torch.zeros_like(p)) for p in parameters]))
        matrix = torch.stack(rows)
        pieces = self.split(matrix)
        for row, member in enumerate(members):
            for parameter, piece in zip(network_of(member).parameters(), pieces, strict=True):
                member.optimizer.state[parameter][name] = piece[row]
        return matrix


class _Averages:
    """The moving averages of those that have one: `rows`, int64 (K,), of a stack."""

    def __init__(self, storage: Storage, members: Sequence[Training]) -> None:
        having = [(row, member, member.average) for row, member in enumerate(members) if member.average is not None]
        self._averages: list[Average] = [average for _, _, average in having]
        self.rows = torch.tensor([row for row, _, _ in having], device=storage.weights.device)
        self._storage = storage
        names = [f"network.{name}" for name in storage.parameters]
        self.weights = torch.stack([_row([a.weights[name] for name in names]) for a in self._averages])
        self.buffers = {
            name: torch.stack([a.weights[f"network.{name}"] for a in self._averages])
            for name in storage.buffers
            if f"network.{name}" in self._averages[0].weights
        }
        pieces = dict(zip(names, storage.split(self.weights), strict=True))
        pieces |= {f"network.{name}": value for name, value in self.buffers.items()}
        for row, average in enumerate(self._averages):
            average.weights.update({name: piece[row] for name, piece in pieces.items()})

    def update(self) -> None:
        """Take the weights in, after a step."""
        shares = torch.tensor([[average.count()] for average in self._averages], dtype=torch.float64).to(self.weights)
        self.weights.lerp_(self._storage.weights[self.rows], shares)
        for name, value in self.buffers.items():
            now = self._storage.buffers[name][self.rows]
            if value.is_floating_point():
                value.lerp_(now, shares.view(-1, *(1,) * (value.ndim - 1)).to(value))
            else:
                value.copy_(now)

    def judged(self) -> dict[str, Tensor]:
        """Return parameters and buffers of the whole stack, the averages in place of those who have one."""
        weights = self._storage.weights.index_copy(0, self.rows, self.weights)
        buffers = {
            name: value.index_copy(0, self.rows, self.buffers[name]) if name in self.buffers else value
            for name, value in self._storage.buffers.items()
        }
        return {**dict(zip(self._storage.parameters, self._storage.split(weights), strict=True)), **buffers}


def _row(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
