"""Dropout by counter: its masks depend on trial seed, layer, epoch, step and place, and look like random ones."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from search.train.dropout import Counted, Dropout, Dropout1d, Dropout2d, Dropout3d, Masks, counted, limit_of, scale_of

SHAPE = (32, 64)
STEPS = 34


def kept(layer: Counted, seed: int = 0, epoch: int = 1, steps: int = STEPS, place: int = 0) -> Tensor:
    """Return which elements are kept in each step of an epoch, bool (steps, *SHAPE)."""
    masks = Masks(nn.Sequential(*(Dropout(0.5) for _ in range(place)), layer), seed)
    masks.begin(epoch, steps)
    found = []
    for step in range(steps):
        masks.step(step)
        found.append(layer(torch.ones(SHAPE)) > 0)
    return torch.stack(found)


def most_correlated(rows: Tensor) -> float:
    """Return the largest correlation of two rows, in units of what chance gives two."""
    found = torch.corrcoef(rows.double()).fill_diagonal_(0).abs().max()
    return float(found) * float(np.sqrt(rows.shape[1]))


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_as_many_are_dropped_as_the_rate_says(rate: float) -> None:
    found = kept(Dropout(rate)).double()
    error = np.sqrt(rate * (1 - rate) / found.numel())
    assert abs(float(found.mean()) - (1 - rate)) < 4 * error
    of_steps = found.flatten(1).mean(dim=1)
    assert float(of_steps.std()) == pytest.approx(np.sqrt(rate * (1 - rate) / found[0].numel()), rel=0.5)


def test_masks_of_steps_layers_trials_units_and_examples_are_independent() -> None:
    steps = kept(Dropout(0.3))
    others = [kept(Dropout(0.3), seed=1), kept(Dropout(0.3), epoch=2), kept(Dropout(0.3), place=1)]
    whole = torch.stack([steps, *others]).flatten(1)
    assert most_correlated(whole) < 4
    assert most_correlated(steps.flatten(1)) < 5
    assert most_correlated(steps.reshape(-1, SHAPE[1]).T) < 5
    assert most_correlated(steps.transpose(0, 1).flatten(1)) < 5


def test_a_mask_is_a_function_of_its_key() -> None:
    torch.manual_seed(1)
    first = kept(Dropout(0.3), seed=5, epoch=3)
    torch.manual_seed(2)
    assert torch.equal(first, kept(Dropout(0.3), seed=5, epoch=3))


def test_calls_in_one_step_have_masks_of_their_own() -> None:
    layer = Dropout(0.5)
    masks = Masks(layer, 0)
    masks.begin(1, 2)
    masks.step(0)
    first, second = layer(torch.ones(SHAPE)), layer(torch.ones(SHAPE))
    assert not torch.equal(first, second)
    masks.step(0)
    assert torch.equal(first, layer(torch.ones(SHAPE)))


def test_without_keys_it_draws_as_torch_does() -> None:
    layer = Dropout(0.5)
    torch.manual_seed(0)
    first, second = layer(torch.ones(SHAPE)), layer(torch.ones(SHAPE))
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(first, layer(torch.ones(SHAPE)))


@pytest.mark.parametrize(("rate", "mean"), [(0.0, 1.0), (1.0, 0.0)])
def test_the_ends(rate: float, mean: float) -> None:
    layer = Dropout(rate)
    assert float(layer(torch.ones(SHAPE)).mean()) == mean
    assert float((torch.tensor([-(2**31), 2**31 - 1], dtype=torch.int32) <= limit_of(rate)).float().mean()) >= mean
    assert scale_of(rate) == mean


def test_evaluation_changes_nothing_and_what_is_kept_is_scaled() -> None:
    layer, inputs = Dropout(0.2), torch.randn(SHAPE)
    dropped = layer(inputs)
    where = dropped != 0
    torch.testing.assert_close(dropped[where], inputs[where] / 0.8)
    assert layer.eval()(inputs) is inputs


@pytest.mark.parametrize(
    ("layer", "shape"), [(Dropout1d(0.5), (8, 6, 5)), (Dropout2d(0.5), (8, 6, 5, 4)), (Dropout3d(0.5), (8, 6, 5, 4, 3))]
)
def test_whole_channels_are_dropped(layer: Counted, shape: tuple[int, ...]) -> None:
    found = layer(torch.ones(shape)).flatten(2)
    assert torch.equal(found.amin(dim=2), found.amax(dim=2))
    assert 0 < float((found > 0).float().mean()) < 1


def test_every_layer_of_torchs_own_is_replaced_and_nothing_else() -> None:
    class Mine(nn.Dropout):
        pass

    network = nn.Sequential(nn.Dropout(0.1), nn.Sequential(nn.Dropout2d(0.2), Mine(0.3)), nn.ReLU())
    made = counted(network)
    assert [type(m) for m in made.modules()][1:] == [Dropout, nn.Sequential, Dropout2d, Mine, nn.ReLU]
    assert [m.p for m in made.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)] == [0.1, 0.2, 0.3]
    assert made.state_dict() == {}
    assert isinstance(counted(nn.Dropout(0.4)), Dropout)


def test_in_a_stack_each_network_has_its_own_rate_and_masks() -> None:
    rates = torch.linspace(0, 1, 5)
    inputs = torch.randn(5, *SHAPE)
    alone = []
    keys = []
    for seed, rate in enumerate(rates.tolist()):
        layer = Dropout(rate)
        masks = Masks(layer, seed)
        keys.append(masks.keys(1, 3)[0][2])
        masks.begin(1, 3)
        masks.step(2)
        alone.append(layer(inputs[seed]))
    stacked = Dropout(0.5)
    stacked.keyed = True
    stacked.register_buffer("limit", torch.zeros((), dtype=torch.int32), persistent=False)
    stacked.register_buffer("scale", torch.zeros(()), persistent=False)
    buffers = {
        "key": torch.tensor(np.array(keys)),
        "limit": torch.tensor([limit_of(rate) for rate in rates.tolist()], dtype=torch.int32),
        "scale": torch.tensor([scale_of(rate) for rate in rates.tolist()]),
    }
    found = vmap(lambda given, x: functional_call(stacked, given, (x,)))(buffers, inputs)
    assert torch.equal(found, torch.stack(alone))
