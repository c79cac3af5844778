"""What a training in a stack writes down about its layers is what it writes alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.kits.stacks import (
    ADAMW,
    BATCH_NORM,
    CNN,
    MLP,
    SGD,
    TRANSFORMER,
    Nodes,
    assert_same_table,
    begun,
    compared_trainings,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


WATCHED: dict[str, list[Nodes]] = {
    name: [
        {"model": model, "seed": seed, "optimizer": {**node, "lr": rate}, **others}
        for seed, (node, rate) in enumerate([(ADAMW, 0.01), (SGD, 1.0), (ADAMW, 0.3)])
    ]
    for name, model, others in (
        ("mlp", {**MLP, "dropout": 0.2}, {}),
        ("batch norm", BATCH_NORM, {}),
        ("tanh, in parts", {**MLP, "activation": "tanh"}, {"trainer": {"micro_batches": 2, "clip_norm": 0.5}}),
        ("cnn", {**CNN, "dropout": 0.2}, {}),
        ("transformer", TRANSFORMER, {}),
        ("regression", MLP, {"data": "diabetes", "optimizer": ADAMW, "trainer": {"decay": "weights"}}),
    )
}


@pytest.mark.parametrize("members", WATCHED.values(), ids=WATCHED)
def test_the_table_of_layers_is_that_of_the_training_alone(
    members: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.train.diagnostics.diary.EVERY", 3)
    alone, others = ([begun(**nodes) for nodes in members] for _ in range(2))
    compared_trainings(alone, others, epochs=3)
    for one, other in zip(alone, others, strict=True):
        assert one.diary is not None
        assert len(one.diary.table.steps) == 3 * -(-one.steps_per_epoch // 3)
        assert_same_table(one, other)
    if members[0]["model"] == {**MLP, "dropout": 0.2}:  # what is compared has units that died in it
        assert any(one.diary is not None and np.nanmax(one.diary.table.of("dead")) > 0 for one in alone)


def test_an_output_that_cannot_be_looked_at_ends_looking_and_not_the_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unable(*_: Any) -> None:
        raise ValueError("no")

    monkeypatch.setattr("search.train.diagnostics.outputs.Outputs._see", unable)
    alone, others = ([begun(seed=seed, model=BATCH_NORM) for seed in (0, 1)] for _ in range(2))
    compared_trainings(alone, others)
    for one, other in zip(alone, others, strict=True):
        assert_same_table(one, other)
    assert "ValueError: no" in capsys.readouterr().err
