from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search.errors import UsageError
from search.train.data.arrays import Dataset, Examples, Split
from search.train.estimator import Estimator, build

SPLIT = Split(train=np.arange(6), validation=np.arange(6, 8), test=np.arange(8, 10))
LINEAR = {"_target_": "search.train.models.linear.Linear"}


class Unchanged(nn.Module):
    """Gives the standardised inputs back; takes no shapes."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


class Bare(nn.Module):
    """Has no constructor of its own: that of nn.Module takes anything by its signature, and refuses it."""


class Pair(nn.Module):
    """Gives what is no tensor."""

    def forward(self, inputs: Tensor) -> Any:
        return inputs, inputs


class Everything(nn.Module):
    """Takes whatever it is offered."""

    def __init__(self, **given: Any) -> None:
        super().__init__()
        self.given = given


def no_module(num_outputs: int) -> str:
    return "x" * num_outputs


def named(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.{name}", **arguments}


def dataset(inputs: Any, targets: Any = None) -> Dataset:
    numbers = targets is not None
    examples = Examples(
        name="made",
        inputs=np.asarray(inputs),
        targets=np.asarray(targets, dtype=np.float32) if numbers else np.arange(len(inputs)) % 3,
        task="regression" if numbers else "classification",
        classes=() if numbers else ("a", "b", "c"),
    )
    return Dataset(examples=examples, split=SPLIT)


def standardised(data: Dataset, inputs: Any = None) -> Tensor:
    with torch.inference_mode():
        found: Tensor = build(named("Unchanged"), data).standardised(
            torch.as_tensor(data.examples.inputs if inputs is None else inputs)
        )
    return found


ROWS = np.random.default_rng(0).normal([5, -3], [2, 0.1], (10, 2)).astype(np.float32)
PICTURES = np.random.default_rng(0).integers(0, 256, (10, 3, 4, 5)).astype(np.uint8)


@pytest.mark.parametrize(
    ("inputs", "axes"),
    [(ROWS, (0,)), (PICTURES, (0, 2, 3)), (PICTURES[:, :, 0], (0, 2))],
    ids=["a feature of a table", "a channel of pictures", "a channel of series"],
)
def test_training_inputs_have_mean_0_and_deviation_1_each(inputs: Any, axes: tuple[int, ...]) -> None:
    train = standardised(dataset(inputs))[:6]
    torch.testing.assert_close(train.mean(axes), torch.zeros(train.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(train.std(axes, correction=0), torch.ones(train.shape[1]), atol=1e-4, rtol=0)


def test_statistics_come_from_the_training_split_alone() -> None:
    poisoned = ROWS.copy()
    poisoned[6:] = 1e6
    targets, poisoned_targets = np.arange(10.0), np.where(np.arange(10) < 6, np.arange(10.0), -1e6)
    clean = build(named("Unchanged"), dataset(ROWS, targets)).state_dict()
    other = build(named("Unchanged"), dataset(poisoned, poisoned_targets)).state_dict()
    assert set(clean) == {"mean", "std", "target_mean", "target_std"}
    for name, value in clean.items():
        assert torch.equal(value, other[name]), name


def test_missing_inputs_become_the_training_mean() -> None:
    gaps = ROWS.copy()
    gaps[[0, 7], [0, 1]] = np.nan
    data = dataset(gaps)
    found = standardised(data)
    assert found[0, 0] == 0
    assert found[7, 1] == 0
    filled = np.where(np.isnan(gaps), [gaps[1:6, 0].mean(), gaps[:6, 1].mean()], gaps).astype(np.float32)
    torch.testing.assert_close(standardised(data, filled), found, atol=1e-5, rtol=0)


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan], ids=["zeros", "sevens", "missing"])
def test_an_input_that_is_always_the_same_carries_nothing(value: float) -> None:
    rows = ROWS.copy()
    rows[:, 1] = value
    found = standardised(dataset(rows))
    assert found.isfinite().all()
    assert torch.equal(found[:, 1], torch.zeros(10))


def test_an_input_that_was_always_the_same_in_training_is_not_blown_up_later() -> None:
    rows = ROWS.copy()
    rows[:6, 1] = 7.0
    rows[6:, 1] = 8.5
    assert torch.equal(standardised(dataset(rows))[6:, 1], torch.full((4,), 1.5))


def test_a_regression_answers_in_the_targets_unit() -> None:
    targets = np.array([100.0, 102, 104, 106, 108, 110, 0, 0, 0, 0])
    estimator = build(LINEAR, dataset(ROWS, targets))
    for parameter in estimator.parameters():
        nn.init.zeros_(parameter)
    inputs = torch.as_tensor(ROWS)
    torch.testing.assert_close(estimator(inputs), torch.full((10, 1), 105.0))
    nn.init.ones_(estimator.network.head.bias)  # type: ignore[union-attr, arg-type]
    torch.testing.assert_close(estimator(inputs), torch.full((10, 1), 105 + targets[:6].std().item()))


def test_a_constant_target_keeps_its_value() -> None:
    estimator = build(LINEAR, dataset(ROWS, np.full(10, 4.0)))
    assert (float(estimator.target_mean), float(estimator.target_std)) == (4.0, 1.0)


def test_logits_stay_as_they_are() -> None:
    estimator = build(LINEAR, dataset(ROWS))
    inputs = torch.as_tensor(ROWS)
    expected = estimator.network((inputs - estimator.mean) / estimator.std)
    assert torch.equal(estimator(inputs), expected)


def test_statistics_are_kept_with_the_weights_and_not_trained() -> None:
    estimator = build(LINEAR, dataset(ROWS, np.arange(10.0)))
    names = [f"network.head.{name}" for name in ("weight", "bias")]
    assert [name for name, _ in estimator.named_parameters()] == names
    assert set(estimator.state_dict()) == {"mean", "std", "target_mean", "target_std", *names}
    other = build(LINEAR, dataset(ROWS + 1, np.arange(10.0) * 2))
    other.load_state_dict(estimator.state_dict())
    assert torch.equal(other(torch.as_tensor(ROWS)), estimator(torch.as_tensor(ROWS)))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"in_shape": (3, 4, 5), "num_outputs": 3}),
        ({"num_outputs": 7, "width": 2}, {"in_shape": (3, 4, 5), "num_outputs": 7, "width": 2}),
    ],
    ids=["offered", "set in the configuration"],
)
def test_a_target_is_given_the_shapes_that_it_takes(given: dict[str, Any], expected: dict[str, Any]) -> None:
    network = build(named("Everything", **given), dataset(PICTURES)).network
    assert isinstance(network, Everything)
    assert network.given == expected


@pytest.mark.parametrize("network", [Unchanged, Bare])
def test_a_target_that_takes_no_shapes_is_given_none(network: type[nn.Module]) -> None:
    assert isinstance(build(named(network.__name__), dataset(PICTURES)).network, network)


def test_raw_inputs_of_any_number_type_are_taken() -> None:
    for kind in (np.uint8, np.int64, np.float64):
        outputs = build(LINEAR, dataset(PICTURES.astype(kind)))(torch.as_tensor(PICTURES.astype(kind)))
        assert outputs.dtype == torch.float32


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no target": ({"width": 3}, "model", "needs a _target_"),
    "no such module": ({"_target_": "nowhere.Model"}, "model._target_=nowhere.Model", "nowhere"),
    "no such class": (
        {"_target_": "search.train.models.mlp.MLPP"},
        "model._target_=search.train.models.mlp.MLPP",
        "MLPP",
    ),
    "no network": (named("no_module"), f"model._target_={__name__}.no_module", "gives str, not an nn.Module"),
    "a network of pictures": (
        {"_target_": "search.train.models.cnn.CNN", "channels": 1, "blocks": 1, "kernel": 1, "dropout": 0.0},
        "model=cnn",
        "needs series (C, L) or pictures (C, H, W)",
    ),
}


@pytest.mark.parametrize(("config", "key", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_network_that_cannot_be_built_is_refused(config: dict[str, Any], key: str, reason: str) -> None:
    with pytest.raises(UsageError) as refusal:
        build(config, dataset(ROWS))
    assert key in str(refusal.value)
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_place_in_the_configuration_is_named() -> None:
    with pytest.raises(UsageError, match=r"^squeeze\.student._target_=nowhere\.Model"):
        build({"_target_": "nowhere.Model"}, dataset(ROWS), key="squeeze.student")


def test_statistics_of_many_examples_come_from_evenly_spaced_ones() -> None:
    size = 45_000  # every second one is looked at
    inputs = np.zeros((size, 1), dtype=np.float32)
    inputs[1::2] = 100.0
    examples = Examples(name="m", inputs=inputs, targets=np.arange(size) % 2, task="classification", classes=("a", "b"))
    everything = np.arange(size)
    estimator = build(
        named("Unchanged"),
        Dataset(examples=examples, split=Split(train=everything, validation=everything, test=everything)),
    )
    assert isinstance(estimator, Estimator)
    assert float(estimator.mean) == 0.0


def test_a_network_that_gives_no_tensor_is_refused() -> None:
    data = dataset(np.zeros((10, 2)))
    with pytest.raises(UsageError, match=r"model: gives tuple; it must give a tensor \(N, num_outputs\)"):
        build(named("Pair"), data)(torch.zeros(10, 2))
