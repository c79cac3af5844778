"""R10: what differs between two runs is found; what may not differ between seeds as well."""

import numpy as np
import pytest
import torch

from search.records import CheckVerdict
from search.train import steps
from tests.checks.setup.parts import part
from tests.checks.setup.setups import HEALTHY_NETS, SGD, bench_of, found_by


@pytest.mark.parametrize("model", HEALTHY_NETS)
def test_a_seeded_run_is_the_same_twice(model) -> None:
    found = found_by("R10", bench_of(model))
    assert found.verdict is CheckVerdict.PASS
    assert set(found.measured.values()) == {0.0}
    assert [e.name for e in found.evidence] == ["losses"]


def test_a_generator_that_nothing_seeds_is_found() -> None:
    found = found_by("R10", bench_of(part("Noisy")))
    assert found.verdict is CheckVerdict.FAIL
    assert "losses" in found.sentence
    assert found.measured["difference_weights"] > 0
    assert found.advice


def test_an_order_that_nothing_seeds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        steps,
        "epoch_order",
        lambda train, seed, epoch, size: torch.as_tensor(np.random.default_rng().permutation(train)),
    )
    found = found_by("R10", bench_of())
    assert found.verdict is CheckVerdict.FAIL
    assert "order" in found.sentence


def test_an_order_that_never_changes_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "epoch_order", lambda train, seed, epoch, size: torch.as_tensor(train))
    found = found_by("R10", bench_of())
    assert found.verdict is CheckVerdict.WARN
    assert "two seeds and two epochs" in found.sentence


def test_a_run_that_diverges_cannot_be_compared() -> None:
    found = found_by("R10", bench_of(optimizer={**SGD, "lr": 1e9}))
    assert found.verdict is CheckVerdict.SKIP
    assert "finite" in found.sentence


def test_it_leaves_the_data_and_its_own_answer_as_they_were() -> None:
    bench = bench_of()
    before = bench.examples.inputs.copy()
    assert found_by("R10", bench).sentence == found_by("R10", bench).sentence
    assert np.array_equal(bench.examples.inputs, before)
