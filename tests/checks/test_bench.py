"""Benches: copies, networks without dropout, and batches through a loader."""

import dataclasses

import torch
from torch import nn

from search.checks.bench import copied, has_dropout, minibatches, without_dropout
from search.records import Verdict
from search.train.batches import LoaderBatches
from tests.checks.setup.legitimate import own
from tests.checks.setup.setups import bench_of
from tests.kits.zoo import MLP, config


def test_what_a_network_has_computed_is_copied_too() -> None:
    for name in ("weight_normed", "spectral", "lazy"):
        setup = bench_of(own(name)).setup()
        inputs = bench_of().drawn(4)[0]
        first = setup.model.eval()(inputs)
        other = copied(setup).model
        assert torch.equal(other(inputs), first)
        with torch.no_grad():
            next(other.parameters()).add_(1.0)
        assert torch.equal(setup.model(inputs), first)


def test_dropout_of_attention_and_of_recurrent_layers_is_switched_off_as_well() -> None:
    for module in (nn.Dropout(0.3), nn.MultiheadAttention(4, 2, dropout=0.1), nn.GRU(4, 4, 2, dropout=0.2)):
        assert has_dropout(module)
        without_dropout(module)
        assert not has_dropout(module)


def test_minibatches_are_those_of_the_trial() -> None:
    for sampling in ("shuffled", "balanced"):
        trainer = {**config()["trainer"], "sampling": sampling, "epochs": 1, "diagnostics": False}
        setup = bench_of(MLP, trainer=trainer).setup()
        seen: list[torch.Tensor] = []

        def loss(outputs: torch.Tensor, targets: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
            seen.append(indices)  # noqa: B023 - is called before the next one
            return setup.loss(outputs, targets, indices)  # noqa: B023

        dataclasses.replace(setup, loss=loss).training().fit(lambda *_: (Verdict.GO_ON, ""))
        drawn = [indices for _, _, indices in minibatches(setup, len(seen))]
        assert all(torch.equal(one, other) for one, other in zip(seen, drawn, strict=True))
        assert (len(torch.cat(drawn).unique()) == len(torch.cat(drawn))) == (sampling == "shuffled")


def test_checks_load_in_their_own_process() -> None:
    trainer = {**config()["trainer"], "loading": "loader", "loader_workers": 2}
    bench = bench_of(MLP, trainer=trainer)
    assert isinstance(bench.batches, LoaderBatches)
    assert bench.batches._num_workers == 0


def test_parts_of_a_batch_are_never_single_examples() -> None:
    bench = bench_of(MLP, trainer={**config()["trainer"], "batch_size": 8})
    assert [len(part) for part in bench.in_parts(torch.zeros(17, 1))] == [6, 6, 5]
    assert [len(part) for part in bench.in_parts(torch.zeros(3, 1))] == [3]
    assert [len(part) for part in bench.in_parts(torch.zeros(1, 1))] == [1]
