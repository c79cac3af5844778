"""Which module NaN comes from, and why."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from search.train.diagnostics.non_finite import first_non_finite

INPUTS = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))


class Block(nn.Module):
    """Takes a root in its own code."""

    def __init__(self, before: bool) -> None:
        super().__init__()
        self.linear, self.before = nn.Linear(4, 4), before

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.linear(inputs.log()) if self.before else self.linear(inputs).log()
        return outputs


def net(middle: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), middle, nn.Linear(4, 3))


def with_weights(value: float) -> nn.Module:
    model = net(nn.Identity())
    model[3].get_parameter("weight").data[0, 0] = value
    return model


def large(scale: float) -> nn.Module:
    model = net(nn.Identity())
    for parameter in (model[0].get_parameter("weight"), model[3].get_parameter("weight")):
        parameter.data.mul_(scale)
    return model


CASES: dict[str, tuple[Callable[[], nn.Module], float, tuple[str, ...]]] = {
    "inputs": (lambda: net(nn.ReLU()), math.inf, ("the inputs of 1 example of the batch hold infinities",)),
    "weights": (
        lambda: with_weights(math.nan),
        0.0,
        ("first in 3 (Linear), whose weight (NaN in 8%)", "earlier update", "learning rate is too high"),
    ),
    "own code after": (
        lambda: net(Block(before=False)),
        0.0,
        ("first in 2 (Block), in its own code", "a log or root of 0"),
    ),
    "own code before": (
        lambda: net(Block(before=True)),
        0.0,
        ("first in 2.linear (Linear), whose inputs are not", "in your code before it"),
    ),
    "overflow": (lambda: large(1e20), 0.0, ("first in 3 (Linear), whose weights are finite", "overflow")),
    "huge inputs": (lambda: large(1e10), 3e38, ("first in 0 (Linear), which is given numbers of up to 3e+38",)),
    "loss of large outputs": (lambda: large(1e10), 0.0, ("so large (up to", "learning rate is too high")),
    "loss": (lambda: net(nn.ReLU()), 0.0, ("outputs are finite", "so it is the loss: a log of 0")),
}


@pytest.mark.parametrize("name", CASES)
def test_the_first_module_is_named_with_a_cause(name: str) -> None:
    make, extra, words = CASES[name]
    model, inputs = make(), INPUTS.clone()
    inputs[2, 1] += extra
    state = torch.get_rng_state()
    told = first_non_finite(model, inputs)
    assert all(word in told for word in words), told
    assert torch.equal(state, torch.get_rng_state())
    assert not any(module._forward_hooks for module in model.modules())


def test_weights_that_no_output_shows_are_named() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Embedding(3, 2))
    model[1].get_parameter("weight").data[0] = math.nan
    told = first_non_finite(nn.Sequential(model[0]).append(Unused(model[1])), INPUTS)
    assert "no output of the network is, but its 1.unused.weight (NaN in 33%)" in told


class Unused(nn.Module):
    def __init__(self, unused: nn.Module) -> None:
        super().__init__()
        self.unused = unused

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


def test_a_forward_pass_that_raises_hides_nothing() -> None:
    assert "raised RuntimeError" in first_non_finite(nn.Linear(5, 2), INPUTS)


def test_a_compiled_network_is_looked_into() -> None:
    inner = net(Block(before=False))
    inner.compile(backend="eager")
    model = nn.Sequential(inner)
    with torch.no_grad():
        model(INPUTS)
    assert "(Block), in its own code" in first_non_finite(model, INPUTS)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_scripted_part_is_looked_at_from_outside() -> None:
    model = net(torch.jit.script(nn.Linear(4, 4)))
    next(model[2].parameters()).data[0, 0] = math.nan
    assert "first in 3 (Linear), whose inputs are not" in first_non_finite(model, INPUTS)
