"""An exponential moving average of the weights, which often beats the last ones (Polyak and Juditsky 1992)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def having(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let a network have other weights, and its own back afterwards."""
    own = copied(model.state_dict())
    model.load_state_dict(weights)
    try:
        yield
    finally:
        model.load_state_dict(own)


class Average:
    """The average of a network's parameters and buffers after each step.

    The first steps are forgotten sooner, by (1 + step) / (10 + step) where that is below the decay: else a short run
    would average its initial weights. What is no floating-point number, a counter of batches say, is the network's.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay, self._step = model, decay, 0
        self.weights = copied(model.state_dict())

    def update(self) -> None:
        """Take the weights in."""
        share = self.count()
        now = self._model.state_dict()
        averaged = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.weights[name] for name in averaged], [now[name] for name in averaged], share)
        for name in now.keys() - set(averaged):
            self.weights[name].copy_(now[name])

    def count(self) -> float:
        """Count a step; return the share that its weights have in the average."""
        self._step += 1
        return 1 - min(self._decay, (1 + self._step) / (10 + self._step))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Let the network have the average, and its own weights back afterwards."""
        with having(self._model, self.weights):
            yield

    def state_dict(self) -> dict[str, object]:
        """Return what a checkpoint keeps."""
        return {"step": self._step, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Go on from a checkpoint."""
        step, weights = state["step"], state["weights"]
        assert isinstance(step, int)
        assert isinstance(weights, dict)
        self._step = step
        for name, value in self.weights.items():
            value.copy_(weights[name])


def copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of weights, as they are now."""
    return {name: value.detach().clone() for name, value in state.items()}
