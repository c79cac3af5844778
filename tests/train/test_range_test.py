"""The range test: what it suggests, and that training says the same."""

import copy
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from search.checks.bench import minibatches, train
from search.train.data.arrays import Examples
from search.train.range_test import RangeTest, judged, ramped, range_test
from search.train.setup import Setup, setup_of
from tests.kits.zoo import ADAMW, MLP, config, digits, divided

RATES = np.geomspace(1e-6, 10, 100)
SEEDS = range(10)


def setup(seed: int = 0, **nodes: Any) -> Setup:
    return setup_of(config(MLP, **nodes), divided(digits(seed), seed), torch.device("cpu"), seed=seed)


def ramp_of(of: Setup, **options: Any) -> RangeTest:
    return range_test(of, minibatches(of, options.get("steps", 100)), **options)


def curve(falls: float, diverges: float, noise: float = 0.0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return losses that fall from 2.3 to 0.3 around one rate and rise to 50 at another, and the first losses."""
    batch = 1 + noise * np.random.default_rng(0).normal(size=len(RATES))
    fallen = 2.3 - 2.0 / (1 + (falls / RATES) ** 2)
    return batch * np.where(diverges <= RATES, 50.0, fallen), 2.3 * batch


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_three_phases(noise: float) -> None:
    found = judged(RATES, *curve(1e-3, 0.1, noise), 100)
    assert found.low is not None
    assert found.steepest is not None
    assert found.high is not None
    assert found.diverged is not None
    assert 1e-4 < found.low < 1e-3
    assert 3e-4 < found.steepest < 3e-3
    assert 2e-3 < found.high < 0.05
    assert 0.04 < found.diverged < 0.13


def test_a_loss_that_never_falls_has_no_range() -> None:
    generator = np.random.default_rng(0)
    first = 2.3 + 0.2 * generator.normal(size=100)
    found = judged(RATES, first + 0.02 * generator.normal(size=100), first, 100)
    assert (found.low, found.steepest, found.high) == (None, None, None)


def test_nan_is_divergence_and_not_the_best_loss() -> None:
    losses, first = curve(1e-3, 1e9)
    losses[80] = math.nan
    found = judged(RATES[:81], losses[:81], first[:81], 100)
    assert found.diverged is not None
    assert found.high is not None
    assert RATES[75] < found.diverged <= RATES[80]
    assert found.high < found.diverged


def test_a_loss_that_stays_small_never_diverges() -> None:
    found = judged(RATES, *curve(1e-3, 1e9), 100)
    assert found.diverged is None
    assert found.high is not None


def test_losses_below_zero_have_a_range_too() -> None:
    losses, first = curve(1e-3, 0.1)
    found = judged(RATES, losses - 1, first - 1, 100)
    shifted = judged(RATES, losses - 3, first - 3, 100)
    for one in (found, shifted):
        assert one.low is not None
        assert 1e-4 < one.low < 1e-3


@pytest.mark.parametrize(("ramp", "middle"), [("exponential", 0.1), ("linear", 0.505)])
def test_ramps(ramp: Any, middle: float) -> None:
    rates = ramped(1e-2, 1.0, 101, ramp)
    assert (rates[0], rates[-1]) == pytest.approx((1e-2, 1.0))
    assert rates[50] == pytest.approx(middle)


@pytest.mark.parametrize("options", [{"low": 1.0, "high": 0.1}, {"low": -1.0}, {"steps": 3}, {"ramp": "cubic"}])
def test_what_is_no_ramp_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"range test needs|allowed"):
        ramp_of(setup(), **options)


def test_the_setup_and_the_generators_are_left_alone() -> None:
    given = setup()
    train(given, minibatches(given, 3))
    given.model.eval()
    weights, state = copy.deepcopy((given.model.state_dict(), given.optimizer.state_dict()))
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    ramp_of(given, steps=20)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not given.model.training
    for name, value in given.model.state_dict().items():
        assert torch.equal(value, weights[name])
    after = given.optimizer.state_dict()
    assert after["param_groups"] == state["param_groups"]
    assert all(torch.equal(after["state"][i]["exp_avg"], state["state"][i]["exp_avg"]) for i in state["state"])


def test_the_same_twice() -> None:
    np.testing.assert_array_equal(ramp_of(setup(), steps=30).losses, ramp_of(setup(), steps=30).losses)


def test_it_stops_where_it_diverges() -> None:
    found = ramp_of(setup(optimizer={"_target_": "torch.optim.SGD", "lr": 0.1}), low=1e-3, high=1e6)
    assert len(found.losses) < 100
    assert len(found.rates) == len(found.losses) == len(found.smoothed)


def test_parameter_groups_keep_their_ratio() -> None:
    given = setup()
    weights = list(given.model.parameters())
    given.optimizer.param_groups.clear()
    given.optimizer.add_param_group({"params": weights[:2], "lr": 1e-3})
    given.optimizer.add_param_group({"params": weights[2:], "lr": 0.0})
    found = ramp_of(given)
    assert found.low is not None
    assert found.low > (ramp_of(setup()).low or math.inf)  # the first layer alone learns more slowly


def test_a_linear_ramp_finds_where_it_diverges() -> None:
    found = ramp_of(setup(), low=1e-5, high=0.5, ramp="linear")
    assert found.low is not None
    assert found.diverged is not None
    assert found.low < 0.05 < found.diverged


def test_suggestions_agree_over_seeds_and_with_training() -> None:
    found = [ramp_of(setup(seed)) for seed in SEEDS]
    spread = np.log10(np.array([[one.low, one.steepest, one.high] for one in found], dtype=float))
    assert np.ptp(spread, axis=0).max() < 0.5
    for seed in (0, 1):
        one = found[seed]
        assert one.low is not None
        assert one.steepest is not None
        assert one.high is not None
        assert last_loss(seed, one.low) < 1.0
        assert last_loss(seed, one.steepest) < 0.5
        assert last_loss(seed, one.high) < 1.0
        assert last_loss(seed, 10 * one.high) > max(0.5, 5 * last_loss(seed, one.high))


def last_loss(seed: int, rate: float) -> float:
    """Return the mean training loss of the last ten of a hundred mini-batches at a rate."""
    of = setup(seed, optimizer={**ADAMW, "lr": rate})
    losses = train(of, minibatches(of, 100))
    return float(losses[-10:].mean()) if len(losses) == 100 else math.inf


class Normed(nn.Module):
    """Has weights that are computed from others, buffers, a memory and dropout: it cannot be copied once called."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.first = nn.utils.weight_norm(nn.Linear(in_shape[-1], 16))
        self.second = nn.utils.spectral_norm(nn.Linear(16, 16))
        self.rest = nn.Sequential(nn.BatchNorm1d(16), nn.Dropout(0.2))
        self.memory = nn.GRU(16, 16, batch_first=True)
        self.head = nn.Linear(16, num_outputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found = self.memory(self.second(self.first(inputs.squeeze(1))))[0][:, -1]
        outputs: torch.Tensor = self.head(self.rest(found))
        return outputs


def test_a_network_that_cannot_be_copied_is_ramped_and_left_alone() -> None:
    given = setup_of(
        config({"_target_": f"{Normed.__module__}.Normed"}),
        divided(digits(0), 0),
        torch.device("cpu"),
        seed=0,
    )
    train(given, minibatches(given, 2))
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(given.model)
    weights = {name: value.clone() for name, value in given.model.state_dict().items()}
    found = ramp_of(given, steps=60)
    assert found.low is not None
    assert found.diverged is not None
    assert all(torch.equal(value, weights[name]) for name, value in given.model.state_dict().items())
    assert given.optimizer.param_groups[0]["lr"] == ADAMW["lr"]


@pytest.mark.parametrize("broken", ["loss", "network"])
def test_the_setup_is_left_alone_by_what_raises(broken: str) -> None:
    given = setup()
    weights = {name: value.clone() for name, value in given.model.state_dict().items()}
    batches = list(minibatches(given, 11))
    inputs, targets, indices = batches[10]
    batches[10] = (inputs, targets + 100, indices) if broken == "loss" else (inputs[:, :, :3], targets, indices)
    with pytest.raises((IndexError, RuntimeError)):
        range_test(given, batches, steps=20)
    assert all(torch.equal(value, weights[name]) for name, value in given.model.state_dict().items())
    assert not given.optimizer.state_dict()["state"]
    assert given.optimizer.param_groups[0]["lr"] == ADAMW["lr"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_rare_example_does_not_end_the_ramp(seed: int) -> None:
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(4000, 20)).astype(np.float32)
    targets = np.zeros(4000, dtype=np.int64)
    targets[::500] = 1
    inputs[targets == 1] += 2
    made = Examples(name="rare", inputs=inputs, targets=targets, task="classification", classes=("no", "yes"))
    given = setup_of(config(MLP), divided(made, seed), torch.device("cpu"), seed=seed)
    found = ramp_of(given)
    assert found.rates[-1] > 1e-3
