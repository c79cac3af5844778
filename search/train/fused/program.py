"""The networks of a stack as one function of all their weights and inputs."""

from __future__ import annotations

import contextlib
import copy
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from search.train.dropout import Counted
from search.train.fused.alike import traits_of
from search.train.fused.drops import Drops
from search.train.fused.layers import Given, side_by_side
from search.train.fused.storage import Storage, network_of
from search.train.fused.watching import Watch
from search.train.loop import Training


class Program(ABC):
    """Runs all networks of a stack at once, on a copy of the first one's code."""

    def __init__(self, members: Sequence[Training], storage: Storage) -> None:
        self.storage = storage
        self.network = copy.deepcopy(network_of(members[0])).requires_grad_(requires_grad=False)
        self._masks = [member.masks for member in members]
        self._dropouts: dict[str, Drops] = {}
        layers = [(name, layer) for name, layer in self.network.named_modules() if isinstance(layer, Counted)]
        for place, (name, layer) in enumerate(layers):
            rates = [masks.layers[place].p for masks in self._masks]
            layer.p = max(rates)
            if layer.p:  # where nobody drops anything there is no mask
                self._dropouts[f"{name}." if name else ""] = Drops(layer, place, rates, storage.weights)

    @property
    def traits(self) -> Hashable:
        """What the networks' code may go by beside weights and inputs."""
        return traits_of(self.network)

    def begin(self, epoch_of: Sequence[int], steps: int) -> None:
        """Have the masks' keys of an epoch ready."""
        of_members = [masks.keys(epoch, steps) for masks, epoch in zip(self._masks, epoch_of, strict=True)]
        for drops in self._dropouts.values():
            keys = [torch.from_numpy(keys[drops.place]) for keys in of_members]
            drops.begin(torch.stack(keys, dim=1).to(self.storage.weights.device))
        self.network.train()

    def look_ahead(self, most_steps: int) -> None:
        """Make masks of no more steps than that at once."""
        for drops in self._dropouts.values():
            drops.most_steps = most_steps

    def outputs(self, inputs: Tensor, step: int, part: int, watch: Watch | None = None) -> Tensor:
        """Return what the networks give for inputs (M, N, *shape) in a step of training, (M, N, ...)."""
        if part == 0:
            for drops in self._dropouts.values():
                drops.step(step)
        return self._trained(inputs, watch)

    def judged(self, inputs: Tensor) -> Tensor:
        """Return what the networks give for the same inputs (N, *shape) in evaluation, (M, N, ...)."""
        averages = self.storage.averages
        state = averages.judged() if averages else {**self.storage.parameters, **self.storage.buffers}
        self.network.eval()
        with torch.no_grad():
            return self._evaluated(state, inputs)

    def rehearsed(self, inputs: Tensor) -> Tensor:
        """Return what the networks give for inputs (M, N, *shape) in the first step of all, (M, N, ...)."""
        self.begin([1] * len(self._masks), 1)
        return self.outputs(inputs, 0, 0)

    def catch_up(self, row: int, step: int) -> None:
        """Let a member's own dropout be where it is alone behind the forward pass that was just made."""
        self._masks[row].step(step)
        for drops in self._dropouts.values():
            self._masks[row].layers[drops.place].key.copy_(drops.next_keys()[row])

    @abstractmethod
    def _trained(self, inputs: Tensor, watch: Watch | None) -> Tensor:
        """Return outputs in a step of training, seen by `watch`."""

    @abstractmethod
    def _evaluated(self, state: dict[str, Tensor], inputs: Tensor) -> Tensor:
        """Return outputs in evaluation, with the weights and buffers `state`, (M, *shape)."""


class Layered(Program):
    """All examples of all networks as one batch; layers with weights know which are whose (see `layers`)."""

    def __init__(self, members: Sequence[Training], storage: Storage) -> None:
        """Raise TypeError for networks with layers that know nothing of it."""
        super().__init__(members, storage)
        self._given = Given(len(members))
        if not side_by_side(self.network, self._given):
            raise TypeError("layers of another kind")
        for drops in self._dropouts.values():
            drops.layer.source = drops

    def _trained(self, inputs: Tensor, watch: Watch | None) -> Tensor:
        state = {**self.storage.parameters, **self.storage.buffers}
        if watch is None:
            return self._run(state, inputs)
        with watch.hooked(self.network, networks=self._given.number):
            outputs = self._run(state, inputs)
            watch.keep(watch.taken())
        return outputs

    def _evaluated(self, state: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return self._run(state, inputs.expand(self._given.number, *inputs.shape))

    def _run(self, state: dict[str, Tensor], inputs: Tensor) -> Tensor:
        self._given.tensors = state
        outputs = _tensor(self.network(inputs.flatten(0, 1)))
        return outputs.view(self._given.number, -1, *outputs.shape[1:])


class Vmapped(Program):
    """Any network that `torch.func.vmap` can take."""

    def __init__(self, members: Sequence[Training], storage: Storage) -> None:
        super().__init__(members, storage)
        for drops in self._dropouts.values():
            drops.layer.keyed, drops.layer.limit, drops.layer.scale = True, drops.limits[0], drops.scales[0]

    def _trained(self, inputs: Tensor, watch: Watch | None) -> Tensor:
        state = {**self.storage.parameters, **self.storage.buffers}
        for at, drops in self._dropouts.items():
            state |= {f"{at}key": drops.held(), f"{at}limit": drops.limits, f"{at}scale": drops.scales}
        if watch is None:
            return _tensor(vmap(self._run)(state, inputs))

        def run(state: dict[str, Tensor], x: Tensor) -> tuple[object, tuple[Tensor, Tensor]]:
            return self._run(state, x), watch.taken()

        with watch.hooked(self.network):
            outputs, seen = vmap(run)(state, inputs)
        watch.keep(seen)
        return _tensor(outputs)

    def _evaluated(self, state: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return _tensor(vmap(self._run, in_dims=(0, None))(state, inputs))

    def _run(self, state: dict[str, Tensor], inputs: Tensor) -> object:
        given = {name: state[name] for name in self.storage.buffers}
        outputs = functional_call(self.network, state, (inputs,), tie_weights=False)
        for name, buffer in given.items():
            if state[name] is not buffer:  # it would be lost
                raise TypeError(f"the network puts another tensor in the place of its buffer {name}")
        return outputs


def _tensor(outputs: object) -> Tensor:
    if not isinstance(outputs, Tensor):
        raise TypeError(f"the network gives {type(outputs).__name__}")
    return outputs


def one_after_the_other(members: Sequence[Training], inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the networks alone give for inputs (N, *shape) in the first step of all, and as they are judged.

    Nothing is left of it.
    """
    trained, judged = [], []
    for member in members:
        network = network_of(member)
        mode, buffers = network.training, {name: value.clone() for name, value in network.named_buffers()}
        average = contextlib.nullcontext() if member.average is None else member.average.applied()
        member.masks.begin(1, 1)
        member.masks.step(0)
        with torch.no_grad():
            trained.append(network.train()(inputs))
            for name, value in buffers.items():
                network.get_buffer(name).copy_(value)
            with average:
                judged.append(network.eval()(inputs))
        network.train(mode)
    return torch.stack(trained), torch.stack(judged)
