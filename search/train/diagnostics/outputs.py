"""What the layers of a network give in one step, gathered by hooks on the device and fetched later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from search.train.diagnostics.layers import Layer, alive, hooks, output_of, saturated
from search.train.diagnostics.table import Array


@dataclass(frozen=True)
class _Call:
    """One call of a layer: its row's name, how many outputs, how many units that may be dead."""

    label: str
    kind: str
    size: int
    units: int
    bounded: bool


@dataclass(kw_only=True)
class Seen:
    """What a layer gave in one step, over all its calls; `alive` bool (U,) where units may be dead."""

    kind: str
    size: int = 0
    total: float = 0.0
    squares: float = 0.0
    saturated: float | None = None
    alive: Array | None = None

    @property
    def mean(self) -> float:
        """Return the mean output."""
        return self.total / self.size

    @property
    def std(self) -> float:
        """Return the standard deviation of all outputs."""
        return float(np.sqrt(max(self.squares / self.size - self.mean**2, 0.0)))

    def add(self, call: _Call, numbers: Sequence[float], living: Array | None) -> None:
        """Take in a call: its mean, its norm, and the share of saturated outputs where it has ends."""
        self.size += call.size
        self.total += numbers[0] * call.size
        self.squares += numbers[1] ** 2
        if call.bounded:
            part = numbers[2] * call.size / self.size
            self.saturated = (self.saturated or 0.0) * (1 - call.size / self.size) + part
        if living is not None:
            same = self.alive is not None and self.alive.shape == living.shape
            self.alive = self.alive | living if same else living


@dataclass(eq=False)
class Outputs:
    """Gathers a step; until `fetched`, everything stays on the device, so that nothing waits for it."""

    served: dict[str, str]
    """The layer that an activation followed when it was first seen: it may serve others, too."""
    networks: int | None = None
    """Where outputs are those of several networks behind one another, of how many: there is a row of figures each."""
    _calls: list[_Call] = field(default_factory=list)
    _numbers: list[Tensor] = field(default_factory=list)
    _living: list[Tensor] = field(default_factory=list)
    _last: Layer | None = None
    failure: Exception | None = None
    """What looking at an output raised; nothing more is looked at then, and the training knows nothing of it."""

    def hooked(self, layers: Sequence[Layer]) -> Iterator[RemovableHandle]:
        """Put hooks on the layers that take them, one as each is asked for; the caller removes them."""
        return (self._hook(layer) for layer in layers if hooks(layer.module))

    def pack(self) -> None:
        """Put the figures side by side: that is all that is held on to."""
        self._numbers = [torch.stack(self._numbers, dim=-1)] if self._numbers else []
        self._living = [torch.cat(self._living, dim=-1)] if self._living else []
        self._last = None

    def taken(self) -> tuple[Tensor, Tensor]:
        """Return the figures (F,) and units (U,) so far, and let go of them: for `each` of several networks at once."""
        self.pack()
        none = (0,) if self.networks is None else (self.networks, 0)
        numbers = self._numbers.pop() if self._numbers else torch.zeros(none)
        return numbers, self._living.pop() if self._living else torch.zeros(none, dtype=torch.bool)

    def each(self, numbers: Tensor, living: Tensor) -> Iterator[Outputs]:
        """Yield what was seen of each of M networks of one form, from (M, F) and (M, U)."""
        for figures, units in zip(numbers, living, strict=True):
            numbered = [figures] if len(figures) else []
            yield Outputs(self.served, _calls=self._calls, _numbers=numbered, _living=[units] if len(units) else [])

    def fetched(self) -> dict[str, Seen]:
        """Return what each row's layer gave, in the order of their first calls."""
        numbers = iter(self._numbers[0].tolist() if self._numbers else [])
        living = self._living[0].cpu().numpy() if self._living else np.zeros(0, bool)
        found: dict[str, Seen] = {}
        for call, units in zip(self._calls, self._pieces(living), strict=True):
            taken = [next(numbers) for _ in range(3 if call.bounded else 2)]
            found.setdefault(call.label, Seen(kind=call.kind)).add(call, taken, units)
        return found

    def _pieces(self, living: Array) -> Iterator[Array | None]:
        start = 0
        for call in self._calls:
            yield living[start : start + call.units] if call.units else None
            start += call.units

    def _hook(self, layer: Layer) -> RemovableHandle:
        def hook(_: nn.Module, __: object, made: object) -> None:
            if self.failure is not None:
                return
            try:
                output = output_of(made)
                if output is not None:
                    with torch.no_grad():
                        self._see(layer, output)
            except Exception as error:  # noqa: BLE001 - whatever an output is, a training is not to end of being seen
                self.failure = error

        return layer.module.register_forward_hook(hook)

    def _see(self, layer: Layer, output: Tensor) -> None:
        if layer.parameters:
            self._last = layer
        features_last = self._last is not None and self._last.features_last
        if self.networks is None:
            numbers, living = _figures(layer, features_last, output)
            size = output.numel()
        else:
            look = partial(_figures, layer, features_last)
            numbers, living = torch.func.vmap(look)(output.reshape(self.networks, -1, *output.shape[1:]))
            size = output.numel() // self.networks
        self._numbers += numbers
        self._living += living
        units = sum(each.shape[-1] for each in living)
        self._calls.append(_Call(self._label(layer), layer.kind, size, units, layer.ends is not None))

    def _label(self, layer: Layer) -> str:
        if layer.parameters or self._last is None:
            return layer.name
        first = self.served.setdefault(layer.name, self._last.name)
        return layer.name if first == self._last.name else f"{layer.name} after {self._last.name}"


def _figures(layer: Layer, features_last: bool, output: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return mean, norm and what saturates of an output, and which units are alive where some may be dead."""
    numbers: tuple[Tensor, ...] = (output.mean(), torch.linalg.vector_norm(output))
    if layer.ends is not None:
        numbers = (*numbers, saturated(output, layer.ends))
    return numbers, (alive(layer, output, features_last),) if layer.rectifies else ()
