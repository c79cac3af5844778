"""Means of weights: the tensors themselves, batch norm's statistics, and what a greedy soup takes."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search.train.batches import ResidentBatches
from search.train.data.arrays import Dataset, Examples, Split
from search.train.estimator import Estimator
from search.train.metrics import metrics_of
from search.train.soup import Kitchen, mean_of

ACCURACY = metrics_of("classification")["accuracy"]
SIZE, VALIDATION = 64, 40


def dataset() -> Dataset:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 2, SIZE + VALIDATION)
    inputs = generator.normal(size=(SIZE + VALIDATION, 3)) + 2.0 * targets[:, None]
    examples = Examples(
        name="two clouds",
        inputs=inputs.astype(np.float32),
        targets=targets.astype(np.int64),
        task="classification",
        classes=("a", "b"),
    )
    train = np.arange(SIZE)
    return Dataset(examples=examples, split=Split(train=train, validation=SIZE + np.arange(VALIDATION), test=train[:0]))


def network() -> Estimator:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    return Estimator(layers, torch.zeros(3), torch.ones(3), torch.zeros(2))


def turned(weights: Mapping[str, Tensor], by: float) -> dict[str, Tensor]:
    """Return weights whose last layer points elsewhere: 1 as before, -1 the other way."""
    return {name: value * by if name.startswith("network.3") else value.clone() for name, value in weights.items()}


def trained() -> dict[str, Tensor]:
    """Return weights that tell the clouds apart."""
    model, data = network(), dataset()
    inputs, targets = torch.from_numpy(data.examples.inputs[:SIZE]), torch.from_numpy(data.examples.targets[:SIZE])
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def kitchen(*weights: Mapping[str, Tensor], model: Estimator | None = None) -> Kitchen:
    data = dataset()
    batches = ResidentBatches(data.examples, torch.device("cpu"))
    return Kitchen(model or network(), weights, data, batches, batch_size=16)


def test_the_mean_of_weights_is_that_of_each_tensor_and_counters_are_the_firsts() -> None:
    first, second = network().state_dict(), turned(network().state_dict(), -1.0)
    second["network.1.num_batches_tracked"] += 7
    mean = mean_of([first, second])
    torch.testing.assert_close(mean["network.3.weight"], torch.zeros(2, 4))
    torch.testing.assert_close(mean["network.0.weight"], first["network.0.weight"])
    assert mean["network.1.num_batches_tracked"] == 0
    assert {name: value.dtype for name, value in mean.items()} == {name: v.dtype for name, v in first.items()}


def test_batch_norm_has_the_statistics_of_the_mean_network_over_the_training_split() -> None:
    model, weights = network(), trained()
    weights["network.1.running_mean"] = torch.full((4,), 1e3)  # of somebody else
    kitchen(weights, model=model).pour([0])
    data = dataset()
    inside = model.network[0](torch.from_numpy(data.examples.inputs[data.split.train]))  # type: ignore[index]
    torch.testing.assert_close(model.network[1].running_mean, inside.mean(dim=0), rtol=1e-4, atol=1e-5)  # type: ignore[index]


def test_batches_for_the_statistics_are_mixed_where_data_lies_class_by_class() -> None:
    """Within a class inputs vary little: most of the variance is that between the clouds."""
    data = dataset()
    order = np.argsort(data.examples.targets[:SIZE], kind="stable")
    split = dataclasses.replace(data.split, train=order)
    model, weights = network(), trained()
    batches = ResidentBatches(data.examples, torch.device("cpu"))
    Kitchen(model, [weights], dataclasses.replace(data, split=split), batches, batch_size=16).pour([0])
    inside = model.network[0](torch.from_numpy(data.examples.inputs[order]))  # type: ignore[index]
    torch.testing.assert_close(model.network[1].running_var, inside.var(dim=0), rtol=0.15, atol=0)  # type: ignore[index]


def test_what_a_soup_claims_on_noise_is_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the ingredients, and the first of them, are chosen without the examples that it is judged by."""
    data, claims = dataset(), []
    for seed in range(30):
        noise = np.random.default_rng(seed).normal(size=(6, VALIDATION, 2))
        with monkeypatch.context() as patch:
            patch.setattr(Kitchen, "predictions", lambda _, chosen, noise=noise: noise[list(chosen)].mean(axis=0))
            found = kitchen(*[{}] * 6).greedy(ACCURACY, folds=5, seed=seed)
        claims.append(ACCURACY(found.cross_fitted, data.examples.targets[data.split.validation]))
    assert np.mean(claims) == pytest.approx(0.5, abs=0.035)


def test_a_greedy_soup_takes_what_does_no_harm_and_leaves_the_rest() -> None:
    good = trained()
    soup = kitchen(good, turned(good, -3.0), turned(good, 1.5)).greedy(ACCURACY, folds=2, seed=0)
    assert sorted(soup.taken) == [0, 2]
    assert soup.cross_fitted.shape == (VALIDATION, 2)


def test_the_best_alone_is_a_soup() -> None:
    good = trained()
    pot = kitchen(good, turned(good, -3.0))
    soup = pot.greedy(ACCURACY, folds=5, seed=0)
    assert soup.taken == (0,)
    np.testing.assert_array_equal(soup.cross_fitted, pot.predictions([0]))


def test_a_mean_that_is_not_finite_is_never_taken() -> None:
    good = trained()
    spoiled = {name: value * np.nan if value.is_floating_point() else value for name, value in good.items()}
    assert kitchen(good, spoiled).greedy(metrics_of("classification")["loss"], folds=2, seed=0).taken == (0,)


def test_equal_predictions_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    good = trained()
    pot = kitchen(good, turned(good, 1.1), turned(good, 1.2))
    poured: list[tuple[int, ...]] = []
    pour = Kitchen.pour

    def counted(self: Kitchen, chosen: tuple[int, ...]) -> None:
        poured.append(tuple(chosen))
        pour(self, chosen)

    monkeypatch.setattr(Kitchen, "pour", counted)
    pot.greedy(ACCURACY, folds=5, seed=0)
    assert len(poured) == len(set(poured)) == 5, "each alone, and two means"


def test_a_frozen_batch_norm_keeps_the_statistics_that_it_was_trained_with() -> None:
    model, weights = network(), trained()
    weights["network.1.running_mean"] = torch.full((4,), 7.0)
    model.keep_statistics(("1",))
    kitchen(weights, weights, model=model).pour([0, 1])
    torch.testing.assert_close(model.network[1].running_mean, torch.full((4,), 7.0))  # type: ignore[index]
