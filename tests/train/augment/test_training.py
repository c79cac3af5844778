"""Trainings with augmentation, smaller inputs and pretrained weights, as a trial's configuration makes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from search.records import Verdict
from search.train.checkpoint import save_state
from search.train.data.arrays import Examples
from search.train.range_test import range_test
from search.train.setup import Setup, setup_of
from search.train.steps import train_step
from tests.kits import zoo

IMAGE = {"_target_": "search.train.augment.image.Image", "shift": 0.2, "mixup": 0.5}
TRAINER = {**zoo.config()["trainer"], "epochs": 3}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def setup(seed: int = 0, model: Any = zoo.MLP, **nodes: Any) -> Setup:
    config = zoo.config(model, trainer=TRAINER, **nodes)
    return setup_of(config, zoo.divided(zoo.digits(0, 200), 0), torch.device("cpu"), seed=seed)


def trained(made: Setup, checkpoint: Path | None = None, pause_after: int = 99) -> dict[str, Tensor]:
    made.training().fit(
        lambda epoch, _: (Verdict.PAUSE if epoch == pause_after else Verdict.GO_ON, ""), checkpoint=checkpoint
    )
    found: dict[str, Tensor] = made.model.state_dict()
    return found


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_same_seed_augments_the_same_and_an_interrupted_training_goes_on_as_if_nothing_was(tmp_path: Path) -> None:
    whole = trained(setup(augment=IMAGE))
    assert same(whole, trained(setup(augment=IMAGE)))
    assert not same(whole, trained(setup()))
    trained(setup(augment=IMAGE), tmp_path / "c.safetensors", pause_after=2)
    assert same(whole, trained(setup(augment=IMAGE), tmp_path / "c.safetensors"))


def test_what_is_off_changes_nothing() -> None:
    assert same(trained(setup()), trained(setup(augment={"_target_": IMAGE["_target_"]})))


@pytest.mark.parametrize("name", ["wine", "diabetes"])
def test_the_loss_of_a_mixed_batch_is_mixed(name: str) -> None:
    data = zoo.divided(zoo.table(name, 0), 0)
    node = {"_target_": "search.train.augment.table.Table", "mixup": 1.0}
    made = setup_of(zoo.config(zoo.LINEAR, augment=node), data, torch.device("cpu"), seed=0)
    inputs, targets, indices = next(made.batches(torch.as_tensor(data.split.train), 16))
    torch.manual_seed(3)
    assert made.rules.augment is not None
    changed, mixed = made.rules.augment(made.model.standardised(inputs))
    assert mixed is not None
    outputs, share = made.model.judged(changed).detach(), float(mixed.share)
    own, other = (made.loss(outputs, of, indices) for of in (targets, targets[mixed.partners]))
    torch.manual_seed(3)
    total = train_step(made.model, made.optimizer, made.loss, (inputs, targets, indices), rules=made.rules)
    assert float(total) / 16 == pytest.approx(float(share * own + (1 - share) * other), rel=1e-5)


def test_the_range_test_compares_with_the_first_weights_on_the_same_augmented_batches() -> None:
    made = setup(model={**zoo.MLP, "dropout": 0.5}, augment=IMAGE)
    batch = next(made.batches(torch.as_tensor(made.dataset.split.train), 32))
    found = range_test(made, [batch] * 20, low=1e-12, high=1e-11, steps=20)
    assert found.losses.std() > 1e-3
    assert abs(found.smoothed - found.smoothed.mean()).max() < 1e-5  # what batches differ in is taken out


# ------------------------------------------------------------------------------------------------- smaller inputs


@pytest.mark.parametrize("model", [zoo.MLP, zoo.CNN, zoo.LINEAR])
def test_the_network_is_made_for_what_it_is_given(model: Any) -> None:
    made = setup(model=model, inputs={"resolution": 4, "features": None}, augment=IMAGE)
    trained(made)
    raw = torch.as_tensor(made.dataset.examples.inputs[:5])
    assert made.model.standardised(raw).shape == (5, 1, 4, 4)
    assert made.model(raw).shape == (5, 10)
    assert made.model.shape_of((1, 8, 8)) == (1, 4, 4)


def test_chosen_features_are_kept_with_the_weights() -> None:
    data = zoo.divided(zoo.table("wine", 0), 0)
    config = zoo.config(zoo.LINEAR, inputs={"features": 3})
    one = setup_of(config, data, torch.device("cpu"), seed=0).model
    other = setup_of(config, zoo.divided(zoo.table("wine", 1), 1), torch.device("cpu"), seed=0).model
    other.load_state_dict(one.state_dict())
    raw = torch.as_tensor(data.examples.inputs)
    assert torch.equal(one(raw), other(raw))


def test_words_of_a_table_are_augmented_as_one_also_where_columns_are_left_out() -> None:
    random = np.random.default_rng(0)
    classes, words = np.arange(60) % 2, random.integers(3, size=60)
    inputs = np.column_stack([random.normal(size=60), np.eye(3)[words], classes + random.normal(size=60) / 9])
    examples = Examples(
        name="made",
        inputs=inputs.astype(np.float32),
        targets=classes,
        task="classification",
        classes=("a", "b"),
        table={"columns": [["noise", None], ["word", ["x", "y", "z"]], ["telling", None]]},
    )
    node = {"_target_": "search.train.augment.table.Table", "dropout": 0.5}
    for kept, indicators in ((None, slice(1, 4)), (2, slice(-4, -1))):
        config = zoo.config(zoo.LINEAR, augment=node, inputs={"features": kept})
        made = setup_of(config, zoo.divided(examples, 0), torch.device("cpu"), seed=0)
        assert made.rules.augment is not None
        given = made.model.standardised(torch.as_tensor(examples.inputs))
        dropped = made.rules.augment(given)[0][:, indicators] == 0
        assert 10 < int(dropped.all(1).sum()) < 50
        assert torch.equal(dropped.any(1), dropped.all(1))


# ------------------------------------------------------------------------------------------------- pretrained


def test_a_start_from_weights_trains_what_is_not_frozen_at_its_rate(tmp_path: Path) -> None:
    save_state(tmp_path / "w.safetensors", trained(setup(seed=1)))
    node = {"weights": str(tmp_path / "w.safetensors"), "freeze": ["body.1"], "lr_factor": 0.1}
    made = setup(pretrained=node)
    assert [group["lr"] for group in made.optimizer.param_groups] == [pytest.approx(1e-4)]
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    after = trained(made)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert "network.body.1.weight" not in moved
    assert {"network.body.4.weight", "network.head.weight"} <= moved
