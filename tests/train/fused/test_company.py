"""A training is the same in any company, at any epoch of the others, and goes from a stack to being alone and back."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from search.records import Verdict
from search.train.data.arrays import Array
from search.train.fused import Stack
from search.train.loop import Training
from tests.kits.stacks import (
    ADAM,
    ADAMW,
    BATCH_NORM,
    CNN,
    RMSPROP,
    SGD,
    Recorded,
    apart,
    assert_same_table,
    compared_trainings,
    epoch_alone,
    epoch_stacked,
    member,
    relative,
    stacked,
    states_apart,
)

EXACT = 1e-9
MIXUP = {"_target_": "search.train.augment.image.Image", "mixup": 0.4}
KINDS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": SGD},
    "sgd without momentum": {"optimizer": {**SGD, "momentum": 0.0, "nesterov": False}},
    "adam": {"optimizer": ADAM, "trainer": {"ema": 0.9}},
    "adamw": {"optimizer": ADAMW, "augment": MIXUP},
    "rmsprop": {"optimizer": RMSPROP},
    "rmsprop with momentum": {"optimizer": {**RMSPROP, "momentum": 0.5}, "trainer": {"ema": 0.5}},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(kind: str, seed: int = 0, **others: Any) -> Training:
    return member(seed=seed, model={**BATCH_NORM, "dropout": 0.2}, **KINDS[kind], **others)


def advanced(training: Training, epochs: int, verdict: Verdict = Verdict.GO_ON) -> Training:
    """Train so many epochs alone, the last of which ends with a verdict."""
    for number in range(1, epochs + 1):
        training.close_epoch(*epoch_alone(training)[0])
        training.told(verdict if number == epochs else Verdict.GO_ON, "told to")
    return training


def begun(training: Training, checkpoint: Path | None = None) -> Training:
    training.begin(checkpoint)
    return training


def closed(stack: Recorded, verdict: Verdict = Verdict.GO_ON) -> dict[Training, Any]:
    """Train an epoch stacked and tell each member the verdict."""
    found = epoch_stacked(stack)
    for training, (epoch, _) in found.items():
        training.close_epoch(*epoch)
        stack.release(training)
        training.told(verdict, "told to")
    return found


def test_members_come_and_go_and_each_goes_on_as_alone() -> None:
    names = [*KINDS, *KINDS]
    alone, others = ([begun(made(kind, seed)) for seed, kind in enumerate(names)] for _ in range(2))
    stack = stacked(others[:8])
    present = list(range(8))
    for epoch, staying in enumerate([[0, 1, 3, 4, 6], [1, 4, 6, 8, 9, 10, 11], [11, 4], []], start=1):
        found = closed(stack)
        for place in present:
            expected = epoch_alone(alone[place])
            alone[place].close_epoch(*expected[0])
            assert apart(expected, found[others[place]]) < EXACT, (epoch, names[place])
            assert states_apart(alone[place], others[place]) < EXACT, (epoch, names[place])
        present = staying
        if present:
            stack = Recorded([others[place] for place in present], stack.common)
    assert {training.epoch for training in others} == {1, 2, 3, 4}
    for one, other in zip(alone, others, strict=True):
        assert_same_table(one, other)


def test_members_may_be_at_different_epochs() -> None:
    ahead = {"sgd": 2, "adam": 0, "adamw": 3, "rmsprop": 1}
    alone, others = ([advanced(begun(made(kind)), epochs) for kind, epochs in ahead.items()] for _ in range(2))
    assert compared_trainings(alone, others) < EXACT


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_written_in_a_stack_is_gone_on_from_alone_and_the_other_way_round(
    tmp_path: Path, kind: str
) -> None:
    whole = advanced(begun(made(kind)), 4)
    first = begun(made(kind), tmp_path / "stacked")
    stack = stacked([first, begun(made("adam", 1)), begun(made("sgd", 2))])
    for _ in range(2):
        found = epoch_stacked(stack)
        for training, (epoch, _) in found.items():
            training.close_epoch(*epoch)
    stack.release(first)
    first.told(Verdict.PAUSE, "told to")
    alone = begun(made(kind), tmp_path / "stacked")
    assert alone.epoch == 2
    advanced(alone, 2)
    assert states_apart(whole, alone) < EXACT

    advanced(begun(made(kind), tmp_path / "alone"), 2, Verdict.PAUSE)
    again = begun(made(kind), tmp_path / "alone")
    assert again.epoch == 2
    stack = stacked([begun(made("adam", 1)), again])
    for _ in range(2):
        closed(stack)
    assert states_apart(whole, again) < EXACT
    assert relative(whole.fitted().predictions, again.fitted().predictions) < 1e-6
    assert whole.fitted().best_step == again.fitted().best_step


@pytest.mark.parametrize("kind", KINDS)
def test_who_leaves_before_the_first_epoch_goes_on_as_if_never_there(tmp_path: Path, kind: str) -> None:
    whole = advanced(begun(made(kind)), 4)
    advanced(begun(made(kind), tmp_path / "c"), 2, Verdict.PAUSE)
    again = begun(made(kind), tmp_path / "c")
    new = begun(made(kind))
    stack = Stack([again, new])
    stack.prove()
    for training, left in ((again, 2), (new, 4)):
        stack.release(training)
        assert states_apart(whole, advanced(training, left)) < EXACT


# ------------------------------------------------------------------------------------------------------- snapshots


class Kept(dict[int, tuple[dict[str, Tensor], Array]]):
    """What was handed over, by cycle."""

    def __call__(self, cycle: int, weights: Mapping[str, Tensor], predictions: Array) -> None:
        self[cycle] = dict(weights), predictions


SGDR = {"_target_": "search.train.schedules.sgdr", "multiplier": 1.0, "final": 0.0, "decay": 0.5}
TRIANGLES = {"_target_": "search.train.schedules.cyclical", "low": 0.1, "mode": "triangular", "gamma": 1.0}
SCHEDULES: list[dict[str, Any]] = [
    {**SGDR, "unit": "steps", "cycle": 3},
    {**SGDR, "unit": "epochs", "cycle": 1},
    {**TRIANGLES, "unit": "steps", "step_size": 2},
    {"_target_": "search.train.schedules.constant", "unit": "budget", "warmup": 0.0},
]


def test_snapshots_at_the_ends_of_cycles_are_those_of_the_training_alone() -> None:
    kept: list[list[Kept]] = []
    pairs: list[list[Training]] = []
    for _ in range(2):
        pairs.append([])
        kept.append([])
        for seed, schedule in enumerate(SCHEDULES):
            ema = 0.9 if seed % 2 == 0 else None
            training = member(seed=seed, model=CNN, schedule=schedule, trainer={"ema": ema, "epochs": 2})
            kept[-1].append(Kept())
            training.begin(keep=kept[-1][-1])
            pairs[-1].append(training)
    for training in pairs[0]:
        advanced(training, 2)
    stack = stacked(pairs[1])
    for _ in range(2):
        closed(stack)
    assert [len(found) for found in kept[0]] == [2, 2, 2, 0]
    for alone, other in zip(*kept, strict=True):
        assert alone.keys() == other.keys()
        for cycle, (weights, predictions) in alone.items():
            np.testing.assert_allclose(other[cycle][1], predictions, rtol=1e-6, atol=1e-9)
            for name, value in weights.items():
                torch.testing.assert_close(other[cycle][0][name], value, rtol=EXACT, atol=EXACT)
