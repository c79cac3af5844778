"""Everything that a training is made of, and a loss of the user's own in it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from search.errors import UsageError
from search.train.data.arrays import Dataset, Examples, Split
from search.train.losses import own_loss
from search.train.setup import Setup, setup_of
from tests.kits.zoo import LINEAR, config

CPU = torch.device("cpu")
RARE = np.array([0] * 27 + [1] * 3)


def dataset(targets: Any) -> Dataset:
    numbers = np.asarray(targets).dtype.kind == "f"
    examples = Examples(
        name="made",
        inputs=np.random.default_rng(0).normal(size=(len(targets), 4)).astype(np.float32),
        targets=np.asarray(targets, dtype=np.float32 if numbers else np.int64),
        task="regression" if numbers else "classification",
        classes=() if numbers else ("no", "yes"),
    )
    everything = np.arange(len(targets))
    return Dataset(examples=examples, split=Split(train=everything, validation=everything, test=everything))


def made(targets: Any, loss: Any = None) -> Setup:
    return setup_of(config(LINEAR, loss=loss), dataset(targets), CPU, seed=1)


def mean_probability(setup: Setup) -> float:
    with torch.no_grad():
        outputs = setup.model(torch.zeros(8, 4) + setup.model.mean)
    return float(outputs.softmax(dim=1)[:, 1].mean())


def half_squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * functional.mse_loss(outputs, targets)


class Weighted(nn.Module):
    """A loss with a tensor of its own."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor([1.0, weight]))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, weight=self.get_buffer("weight"))


def test_a_new_network_gives_the_prior_whatever_its_last_layer() -> None:
    assert mean_probability(made(RARE)) == pytest.approx(0.1, abs=0.02)


def test_to_a_loss_of_ones_own_go_the_networks_outputs_as_they_are() -> None:
    # log-probabilities with log-odds added would be none any more
    assert mean_probability(made(RARE, {"_target_": "torch.nn.NLLLoss"})) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"_target_": "torch.nn.CrossEntropyLoss"}, lambda x, y: functional.cross_entropy(x, y)),
        (
            {"_target_": "torch.nn.functional.cross_entropy", "label_smoothing": 0.1},
            lambda x, y: functional.cross_entropy(x, y, label_smoothing=0.1),
        ),
        (
            {"_target_": f"{__name__}.Weighted", "weight": 3.0},
            lambda x, y: functional.cross_entropy(x, y, weight=torch.tensor([1.0, 3.0])),
        ),
    ],
    ids=["a class", "a function with an argument", "a module of one's own"],
)
def test_a_loss_of_classes_is_called_with_logits_and_indices(node: dict[str, Any], expected: Any) -> None:
    outputs, targets = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1, 1])
    given = own_loss(node, "classification", 1.0, CPU)(outputs, targets, torch.arange(5))
    assert float(given) == pytest.approx(float(expected(outputs, targets)))


def test_a_loss_of_numbers_is_called_with_both_over_the_targets_deviation() -> None:
    outputs, targets = torch.tensor([[2.0], [6.0]]), torch.tensor([4.0, 4.0])
    loss = own_loss({"_target_": f"{__name__}.half_squared"}, "regression", 2.0, CPU)
    assert float(loss(outputs, targets, torch.arange(2))) == pytest.approx(0.5)


def test_without_a_node_the_loss_is_the_tasks_own() -> None:
    assert made(RARE).standard_loss
    assert not made(RARE, {"_target_": "torch.nn.CrossEntropyLoss"}).standard_loss


def test_a_loss_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match=r"loss\._target_=torch\.nn\.NoLoss"):
        made(RARE, {"_target_": "torch.nn.NoLoss"})
