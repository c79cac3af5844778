"""A member whose numbers are none fails as it does alone, and the others know nothing of it."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from search.records import Verdict
from search.train.fused.stack import Epoch
from search.train.loop import Training
from search.train.steps import NonFiniteError
from tests.kits.stacks import (
    ADAMW,
    CNN,
    MLP,
    SGD,
    Nodes,
    apart,
    epoch_alone,
    exact_predictions,
    member,
    stacked,
    states_apart,
)

EXACT = 1e-9


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


HEALTHY: list[Nodes] = [
    {"seed": 1, "optimizer": ADAMW},
    {"seed": 2, "optimizer": SGD, "trainer": {"clip_norm": 0.1, "label_smoothing": 0.1}},
    {"seed": 3, "optimizer": ADAMW, "augment": {"_target_": "search.train.augment.image.Image", "mixup": 0.4}},
]
FAR = {**SGD, "lr": 1e30, "nesterov": False, "momentum": 0.0}
FAILING: dict[str, dict[str, Any]] = {
    "a learning rate": {"optimizer": FAR},
    "a learning rate with dropout": {"optimizer": FAR, "model": {**MLP, "dropout": 0.3}},
    "in the second part": {"optimizer": FAR, "model": {**MLP, "dropout": 0.3}, "trainer": {"micro_batches": 2}},
    "of a cnn": {"optimizer": FAR, "model": {**CNN, "dropout": 0.3}},
    "with augmentation": {"optimizer": FAR, "augment": {"_target_": "search.train.augment.image.Image", "flip": 0.5}},
    "weights": {"spoiled": math.nan},
    "an infinite weight": {"spoiled": math.inf},
    "of values": {"optimizer": FAR, "data": "diabetes"},
}


def companions(failing: dict[str, Any]) -> list[dict[str, Any]]:
    """Return healthy members that can be stacked with a failing one."""
    shared: dict[str, Any] = {name: failing[name] for name in ("model", "data") if name in failing}
    parts = {"micro_batches": failing.get("trainer", {}).get("micro_batches", 1)}
    chosen: list[Nodes] = [{"seed": 1}, {"seed": 4, "trainer": {"clip_norm": 0.1}}] if "data" in failing else HEALTHY
    return [{**nodes, **shared, "trainer": {**nodes.get("trainer", {}), **parts}} for nodes in chosen]


def spoiled(spoiled: float = 0.0, double: bool = True, **nodes: Any) -> Training:
    training = member(double=double, **nodes)
    if training.optimizer.param_groups[0]["lr"] == FAR["lr"] and double:  # as far for float64
        training = member(**{**nodes, "optimizer": {**FAR, "lr": 1e250}})
    with torch.no_grad():
        list(training.model.parameters())[2].view(-1)[0] += spoiled
    training.begin()
    return training


def ended_alone(training: Training) -> str:
    """Return what a training fails of."""
    with exact_predictions(), pytest.raises(NonFiniteError) as raised:
        training.fit(lambda epoch, figures: (Verdict.GO_ON, ""))
    return str(raised.value)


@pytest.mark.parametrize("double", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
def test_one_fails_with_its_own_words_and_the_others_go_on(failing: dict[str, Any], double: bool) -> None:
    alone = spoiled(**failing, double=double)
    words = ended_alone(alone)
    healthy, others = ([spoiled(**nodes, double=double) for nodes in companions(failing)] for _ in range(2))
    one = spoiled(**failing, double=double)
    stack = stacked([*others[:1], one, *others[1:]])
    for _ in range(alone.epoch):
        with exact_predictions():
            found = dict(zip(stack.members, stack.run_epoch(), strict=True))
        for training, other in zip(healthy, others, strict=True):
            expected, _ = epoch_alone(training)
            assert close(expected, found[other], EXACT if double else 1e-4)
            training.close_epoch(*expected)
            other.close_epoch(*_whole(found[other]))
        last = found[one]
        if one.epoch < alone.epoch:
            one.close_epoch(*_whole(last))
    if not isinstance(last, NonFiniteError):  # it trained on, but its predictions are no numbers
        with exact_predictions(), pytest.raises(NonFiniteError) as raised:
            one.close_epoch(*last)
        last = raised.value
    assert str(last) == words
    for training, other in zip(healthy, others, strict=True):
        stack.release(other)
        assert states_apart(training, other) < (EXACT if double else 1e-3)
    assert alone.diary is not None
    assert one.diary is not None
    np.testing.assert_array_equal(one.diary.table.steps, alone.diary.table.steps)


def close(one: Epoch, other: Epoch | NonFiniteError, tolerance: float) -> bool:
    nothing = np.zeros(0)
    return apart((one, nothing), (_whole(other), nothing)) < tolerance


def _whole(epoch: Epoch | NonFiniteError) -> Epoch:
    assert not isinstance(epoch, NonFiniteError), epoch
    return epoch


def test_gradients_whose_norm_is_beyond_float32_are_not_clipped_for_the_sake_of_others() -> None:
    steep = {"optimizer": {**FAR, "lr": 1e-33}, "data": "diabetes"}
    usual = {"trainer": {"clip_norm": 1.0}, "data": "diabetes"}
    pairs = [[member(double=False, **nodes) for nodes in (steep, usual)] for _ in range(2)]
    for training, _ in pairs:
        with torch.no_grad():
            list(training.model.parameters())[-2].mul_(0).add_(1e15)
    for training in (*pairs[0], *pairs[1]):
        training.begin()
    stack = stacked(pairs[1])
    found = dict(zip(stack.members, stack.run_epoch(), strict=True))
    for one, other in zip(*pairs, strict=True):
        assert close(epoch_alone(one)[0], found[other], 1e-3)
