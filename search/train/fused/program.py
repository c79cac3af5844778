"""The networks of a stack as one function of all their weights and inputs."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from search.train.dropout import Counted, limit_of, scale_of
from search.train.fused.alike import traits_of
from search.train.fused.storage import Storage, network_of
from search.train.fused.watching import Watch
from search.train.loop import Training


class Program:
    """Runs all networks of a stack at once, on the first one's code."""

    def __init__(self, members: Sequence[Training], storage: Storage) -> None:
        self._storage = storage
        self._network = copy.deepcopy(network_of(members[0])).requires_grad_(requires_grad=False)
        layers = [(name, m) for name, m in self._network.named_modules() if isinstance(m, Counted)]
        self._dropouts: list[Counted] = []
        self._names: list[str] = []
        self._keys: list[Tensor] = []
        self._rates: dict[str, Tensor] = {}
        self._masks = [member.masks for member in members]
        self._places: list[int] = []
        for place, (name, layer) in enumerate(layers):
            rates = [masks.layers[place].p for masks in self._masks]
            layer.p = max(rates)
            if layer.p:  # where nobody drops anything there is no mask
                self._feed(name, layer, rates)
                self._places.append(place)

    def _feed(self, name: str, layer: Counted, rates: Sequence[float]) -> None:
        """Let a layer be fed with each network's rate and key."""
        like, at = self._storage.weights, f"{name}." if name else ""
        limits = torch.tensor([limit_of(rate) for rate in rates], dtype=torch.int32, device=like.device)
        self._rates |= {f"{at}limit": limits, f"{at}scale": like.new_tensor([scale_of(rate) for rate in rates])}
        layer.limit, layer.scale, layer.keyed = limits[0], like.new_ones(()), True
        self._dropouts.append(layer)
        self._names.append(f"{at}key")

    @property
    def traits(self) -> Hashable:
        """What the networks' code may go by beside weights and inputs."""
        return traits_of(self._network)

    def begin(self, epoch_of: Sequence[int], steps: int) -> None:
        """Have the masks' keys of an epoch ready, (steps, M) for each layer."""
        device = self._storage.weights.device
        of_members = [masks.keys(epoch, steps) for masks, epoch in zip(self._masks, epoch_of, strict=True)]
        self._keys = [
            torch.stack([torch.from_numpy(keys[place]) for keys in of_members], dim=1).to(device)
            for place in self._places
        ]
        self._network.train()

    def outputs(self, inputs: Tensor, step: int, part: int, watch: Watch | None = None) -> Tensor:
        """Return what the networks give for inputs (M, N, *shape) in a step of training, (M, N, ...)."""
        if part == 0:
            for layer in self._dropouts:
                layer.calls = 0
        fed = dict(zip(self._names, (keys[step] for keys in self._keys), strict=True)) | self._rates
        state = {**self._storage.parameters, **self._storage.buffers, **fed}
        if watch is None:
            return _tensor(vmap(self._run)(state, inputs))

        def run(state: dict[str, Tensor], x: Tensor) -> tuple[object, tuple[Tensor, Tensor]]:
            return self._run(state, x), watch.taken()

        with watch.hooked(self._network):
            outputs, seen = vmap(run)(state, inputs)
        watch.keep(seen)
        return _tensor(outputs)

    def judged(self, inputs: Tensor) -> Tensor:
        """Return what the networks give for the same inputs (N, *shape) in evaluation, (M, N, ...)."""
        averages = self._storage.averages
        state = averages.judged() if averages else {**self._storage.parameters, **self._storage.buffers}
        self._network.eval()
        with torch.no_grad():
            return _tensor(vmap(self._run, in_dims=(0, None))(state, inputs))

    def catch_up(self, row: int, step: int) -> None:
        """Let a member's own dropout be where it is alone behind the forward pass that was just made."""
        self._masks[row].step(step)
        for place, layer in zip(self._places, self._dropouts, strict=True):
            self._masks[row].layers[place].calls = layer.calls

    def _run(self, state: dict[str, Tensor], inputs: Tensor) -> object:
        given = {name: state[name] for name in self._storage.buffers}
        outputs = functional_call(self._network, state, (inputs,), tie_weights=False)
        for name, buffer in given.items():
            if state[name] is not buffer:  # it would be lost
                raise TypeError(f"the network puts another tensor in the place of its buffer {name}")
        return outputs


def _tensor(outputs: object) -> Tensor:
    if not isinstance(outputs, Tensor):
        raise TypeError(f"the network gives {type(outputs).__name__}")
    return outputs


def networks_alone(members: Sequence[Training], inputs: Tensor) -> Tensor:
    """Return what `Program.judged` gives, by one network after the other."""
    found = []
    for member in members:
        network: nn.Module = network_of(member)
        mode = network.training
        average = contextlib.nullcontext() if member.average is None else member.average.applied()
        with torch.no_grad(), average:
            found.append(network.eval()(inputs))
        network.train(mode)
    return torch.stack(found)
