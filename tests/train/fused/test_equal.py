"""A training in a stack goes step by step as it goes alone, whatever its settings are."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from search.keyed import keyed_int
from search.train.fused import Stack
from search.train.loop import Training
from search.train.steps import NonFiniteError
from tests.kits.stacks import (
    ADAM,
    ADAMW,
    BATCH_NORM,
    CNN,
    MLP,
    RESNET,
    RMSPROP,
    SGD,
    Nodes,
    begun,
    compared,
    epoch_alone,
    epoch_stacked,
    relative,
    stacked,
)

EXACT = 1e-9


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def each(base: Mapping[str, Any], **settings: list[Any]) -> list[dict[str, Any]]:
    """Return nodes that have the i-th of each setting."""
    return [{**base, **dict(zip(settings, values, strict=True))} for values in zip(*settings.values(), strict=True)]


def under(key: str, nodes: list[dict[str, Any]], **others: Any) -> list[Nodes]:
    """Return members that differ in one node, and in their seeds."""
    return [{key: node, "seed": seed, **others} for seed, node in enumerate(nodes)]


def schedule(name: str, **settings: list[Any]) -> list[dict[str, Any]]:
    return each({"_target_": f"search.train.schedules.{name}", "unit": "budget"}, **settings)


def augment(name: str, *strengths: Mapping[str, float] | None) -> list[Any]:
    module = f"search.train.augment.{name}.{name.capitalize()}"
    return [None if one is None else {"_target_": module, **one} for one in strengths]


CYCLE = {"start": 0.04, "final": 4e-6, "anneal": "cos", "three_phase": False}
RATES = [1.0, 0.03, 0.3]
OPTIMIZERS: dict[str, list[Nodes]] = {
    "sgd": under("optimizer", each({"_target_": SGD["_target_"]}, lr=RATES, weight_decay=[0.0, 1e-2, 1e-4])),
    "sgd with momentum or without": under(
        "optimizer", each(SGD, lr=[0.3, 0.3, 0.1], momentum=[0.0, 0.9, 0.98], nesterov=[False, False, True])
    ),
    "nesterov": under("optimizer", each(SGD, lr=RATES, momentum=[0.5, 0.9, 0.98], weight_decay=[0.0, 1e-2, 1e-4])),
    "adam": under(
        "optimizer",
        each(
            ADAM,
            lr=[0.1, 1e-4, 0.01],
            betas=[[0.9, 0.999], [0.8, 0.9], [0.0, 0.99]],
            weight_decay=[0.0, 0.1, 1e-3],
            eps=[1e-8, 1e-3, 1e-6],
        ),
    ),
    "adamw": under("optimizer", each(ADAMW, lr=[0.1, 1e-4, 0.01], weight_decay=[0.0, 0.1, 1e-3])),
    "rmsprop": under(
        "optimizer", each(RMSPROP, lr=[0.01, 1e-3], alpha=[0.99, 0.5], weight_decay=[1e-2, 0.0], eps=[1e-8, 1e-3])
    ),
    "rmsprop with momentum or without": under("optimizer", each(RMSPROP, momentum=[0.9, 0.0, 0.5])),
    "momentum that is 0 now and then": under(
        "optimizer",
        [
            SGD,
            {**SGD, "nesterov": False},
            {**RMSPROP, "momentum": 0.9},
            ADAMW,
            {**SGD, "momentum": 0.0, "nesterov": False},
        ],
        schedule={
            "_target_": "search.train.schedules.one_cycle",
            "unit": "steps",
            "rise": 4,
            "low_momentum": 0.0,
            "high_momentum": 0.9,
            **CYCLE,
        },
    ),
    "several kinds": under("optimizer", [SGD, ADAMW, RMSPROP, ADAM, {**SGD, "momentum": 0.5}, {**ADAM, "lr": 0.001}]),
}
ONE_CYCLE = each(
    {"_target_": "search.train.schedules.one_cycle", "unit": "budget", **CYCLE},
    rise=[0.3, 0.45, 0.1],
    low_momentum=[0.85, None, 0.0],
    high_momentum=[0.95, None, 0.9],
)
SCHEDULES: dict[str, list[Nodes]] = {
    "of all kinds": under(
        "schedule",
        [
            *schedule("constant", warmup=[0.0, 0.2]),
            *schedule("cosine", warmup=[0.1, 0.0], final=[0.0, 0.1]),
            *schedule("exponential", gamma=[0.01, 0.3]),
            *schedule("polynomial", power=[1.0, 2.0], final=[0.0, 0.1]),
            *schedule("step", every=[0.1, 0.2], gamma=[0.1, 0.5]),
            *schedule(
                "cyclical", mode=["triangular", "exp_range"], step_size=[0.1, 0.05], low=[0.2, 0.1], gamma=[1.0, 0.1]
            ),
            *schedule("sgdr", cycle=[0.1, 0.2], multiplier=[2.0, 1.0], final=[0.0, 0.1], decay=[1.0, 0.5]),
        ],
    ),
    **{
        f"one_cycle of {name}": under("schedule", ONE_CYCLE, optimizer=node)
        for name, node in (("sgd", SGD), ("rmsprop", {**RMSPROP, "momentum": 0.9}), ("adamw", ADAMW))
    },
}
RULES: dict[str, list[Nodes]] = {
    "dropout": under("model", each(MLP, dropout=[0.0, 0.3, 0.9])),
    "decay": under("trainer", each({}, decay=["all", "weights", "weights"]), optimizer={**ADAMW, "weight_decay": 0.1}),
    "decay, with sgd": under("trainer", each({}, decay=["weights", "all"]), optimizer={**SGD, "weight_decay": 0.1}),
    "label_smoothing": under("trainer", each({}, label_smoothing=[0.0, 0.1, 0.3])),
    "clip_norm": under("trainer", each({}, clip_norm=[0.1, None, 1.0]), optimizer=SGD),
    "clip_value": under("trainer", each({}, clip_value=[None, 1e-3, 0.1], clip_norm=[None, None, 0.1]), optimizer=SGD),
    "ema": under("trainer", each({}, ema=[None, 0.9, 0.5]), model=BATCH_NORM),
    "balanced": under(
        "trainer",
        each(
            {"label_smoothing": 0.1}, class_weights=["balanced", None, None], sampling=[*["shuffled"] * 2, "balanced"]
        ),
    ),
    "accumulate": under("trainer", each({"batch_size": 8, "accumulate": 3}, ema=[None, 0.9])),
    "micro_batches": under("trainer", each({"micro_batches": 3}, ema=[None, 0.9]), model={**MLP, "dropout": 0.3}),
    "epochs": under("trainer", each({}, epochs=[1, 3, 10])),
    "everything": [
        {
            "seed": seed,
            "model": {**BATCH_NORM, "dropout": 0.1 * seed},
            "optimizer": node,
            "schedule": ONE_CYCLE[seed % 3],
            "augment": augment("image", {"shift": 0.1, "mixup": 0.1 * seed})[0],
            "trainer": {"clip_norm": 0.5 * seed, "ema": 0.9, "label_smoothing": 0.05 * seed, "micro_batches": 2},
        }
        for seed, node in enumerate((ADAMW, SGD, RMSPROP, ADAM), 1)
    ],
}
IMAGE = augment(
    "image",
    None,
    {"shift": 0.2, "rotate": 20.0, "scale": 0.2, "crop": 0.2},
    {"flip": 0.5, "brightness": 0.5, "contrast": 0.5, "cutout": 0.4},
    {"mixup": 0.4},
    {"cutmix": 1.0},
    {"mixup": 0.4, "cutmix": 1.0, "shift": 0.1},
)
SERIES = augment("series", None, {"noise": 0.2, "scale": 0.2}, {"shift": 0.2, "crop": 0.3, "mask": 0.3}, {"mixup": 0.5})
TABLE = augment("table", None, {"noise": 0.2}, {"dropout": 0.3, "swap": 0.3}, {"mixup": 0.5, "noise": 0.1})
INPUTS: dict[str, list[Nodes]] = {
    "image": under("augment", IMAGE),
    "image, in parts": under("augment", IMAGE[-3:], trainer={"micro_batches": 2}),
    "series": under("augment", SERIES, data="series"),
    "table": under("augment", TABLE, data="wine"),
    "table of values": under("augment", TABLE, data="diabetes"),
    "features": under("augment", TABLE[:2], data="wine", inputs={"features": 5}),
    "resolution": under("augment", IMAGE[:2], inputs={"resolution": 5}, model=CNN),
}
MODELS: dict[str, list[Nodes]] = {
    "linear": under("optimizer", each(SGD, lr=[1.0, 0.1]), model={"_target_": "search.train.models.linear.Linear"}),
    "layer norm": under("model", each({**MLP, "norm": "layer"}, dropout=[0.2, 0.0])),
    "batch norm": under("model", each(BATCH_NORM, dropout=[0.2, 0.0]), optimizer={**SGD, "lr": 0.5}),
    "cnn": under("model", each(CNN, dropout=[0.3, 0.0])),
    "cnn of series": under("model", each(CNN, dropout=[0.3, 0.0]), data="series"),
    "resnet": under("model", each(RESNET, dropout=[0.3, 0.0])),
    "resnet of series": under("model", each({**RESNET, "preactivation": False}, dropout=[0.3, 0.0]), data="series"),
    "regression": under("optimizer", each(ADAMW, lr=[0.1, 0.01]), data="diabetes"),
    "regression by a loss of one's own": under(
        "optimizer", each(ADAMW, lr=[0.1, 0.01]), data="diabetes", loss={"_target_": "torch.nn.HuberLoss", "delta": 0.5}
    ),
    "classes by a loss of one's own": under(
        "optimizer",
        each(ADAMW, lr=[0.1, 0.01]),
        loss={"_target_": "torch.nn.CrossEntropyLoss", "label_smoothing": 0.1},
        augment=IMAGE[3],
    ),
}
GROUPS = {**OPTIMIZERS, **SCHEDULES, **RULES, **INPUTS, **MODELS}


@pytest.mark.parametrize("members", GROUPS.values(), ids=GROUPS)
def test_every_step_is_that_of_the_training_alone(members: list[Nodes]) -> None:
    assert compared(members) < EXACT


BF16: list[Nodes] = [
    {
        "seed": seed,
        "model": {**BATCH_NORM, "dropout": 0.1 * seed},
        "trainer": {"precision": "bf16", "ema": 0.9, "micro_batches": 2, "class_weights": "balanced"},
        "augment": IMAGE[seed],
    }
    for seed in range(3)
]


def test_in_bfloat16_it_goes_as_alone_but_for_rounding() -> None:
    whole = [{**nodes, "trainer": {**nodes["trainer"], "precision": "float32"}} for nodes in BF16]
    alone, others, exact = ([begun(double=False, **nodes) for nodes in members] for members in (BF16, BF16, whole))
    found = epoch_stacked(stacked(others))
    for training, other, float32 in zip(alone, others, exact, strict=True):
        (loss, predictions), losses = epoch_alone(training)
        (others_loss, others_predictions), others_losses = found[other]
        np.testing.assert_allclose([others_loss, *others_losses], [loss, *losses], rtol=2e-3)
        np.testing.assert_allclose(others_predictions, predictions, atol=0.02)
        assert relative(epoch_alone(float32)[1], others_losses) > 1e-5  # products are of bfloat16 indeed


@pytest.mark.slow
def test_in_float32_no_figure_is_better_or_worse_on_average() -> None:
    drawn = [np.random.default_rng(keyed_int(0, "paired", seed)).uniform(size=3) for seed in range(64)]
    members = [
        {
            "seed": seed,
            "model": {**MLP, "width": 16, "dropout": 0.5 * dropout},
            "optimizer": {**ADAMW, "lr": 10 ** (-4 + 2.5 * rate), "weight_decay": 10 ** (-4 + 3 * decay)},
            "trainer": {"epochs": 3},
        }
        for seed, (rate, decay, dropout) in enumerate(drawn)
    ]
    alone, others = ([begun(double=False, **nodes) for nodes in members] for _ in range(2))
    figures: dict[Training, float] = {}
    stack = Stack(others)
    for _ in range(3):
        for training, epoch in zip(stack.members, stack.run_epoch(), strict=True):
            assert not isinstance(epoch, NonFiniteError)
            figures[training] = training.close_epoch(*epoch)["val/loss"]
    for training in alone:
        for _ in range(3):
            figures[training] = training.close_epoch(*epoch_alone(training)[0])["val/loss"]
    pairs = np.array([[figures[one], figures[other]] for one, other in zip(alone, others, strict=True)])
    assert pairs.std(axis=0).min() > 0.1  # they are not all the same
    differences = pairs[:, 0] - pairs[:, 1]
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    assert abs(differences.mean()) <= 2 * error + 1e-7  # the last digit of the figures
    assert np.abs(differences / pairs[:, 0]).max() < 1e-3
    assert scipy.stats.spearmanr(pairs[:, 0], pairs[:, 1]).statistic >= 0.99
