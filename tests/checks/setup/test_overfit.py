"""R16: a handful of examples is learned by heart, or the reason stands there."""

import numpy as np
import pytest

from search.checks.bench import Bench
from search.checks.evidence import Curves, Pictures
from search.records import CheckVerdict
from search.train.data.arrays import Dataset, Examples, Split
from tests.checks.setup.legitimate import own
from tests.checks.setup.parts import part
from tests.checks.setup.setups import HEALTHY_NETS, SGD, bench_of, found_by
from tests.kits.zoo import MLP, config


@pytest.mark.parametrize("model", [*HEALTHY_NETS, part("Recurrent")])
def test_healthy_networks_learn_a_batch_by_heart(model) -> None:
    found = found_by("R16", bench_of(model, optimizer=SGD))
    assert found.verdict is CheckVerdict.PASS, found.sentence
    assert found.measured["accuracy"] == 1
    assert found.measured["loss"] < found.expected["loss"]
    assert isinstance(found.evidence[0], Curves)


@pytest.mark.parametrize("data", ["iris", "diabetes"])
def test_a_linear_model_is_judged_by_what_it_can_do(data: str) -> None:
    assert found_by("R16", bench_of(HEALTHY_NETS[0], data)).verdict is CheckVerdict.PASS


def test_the_first_layer_of_pictures_is_shown() -> None:
    shapes = []
    for model in HEALTHY_NETS:
        *_, pictures = found_by("R16", bench_of(model)).evidence
        assert isinstance(pictures, Pictures)
        shapes.append(pictures.inputs.shape)
    assert shapes == [(10, 1, 8, 8), (32, 1, 8, 8), (4, 1, 3, 3)]


@pytest.mark.parametrize(
    ("model", "nodes", "word"),
    [
        ({**MLP, "width": 1}, {}, "not learned by heart"),
        (part("softmax"), {}, "not learned by heart"),
        (part("Constant"), {}, "not learned by heart"),
        (MLP, {"loss": part("clipped")}, "own optimiser"),
        (MLP, {"optimizer": part("Copies", lr=0.1)}, "own optimiser"),
        (MLP, {"optimizer": part("Hoarder", lr=0.05)}, "step before"),
    ],
)
def test_faults_are_found(model, nodes, word: str) -> None:
    found = found_by("R16", bench_of(model, **nodes))
    assert found.verdict is CheckVerdict.FAIL
    assert word in found.sentence
    assert found.advice


def test_a_bad_learning_rate_is_not_said_here() -> None:
    assert found_by("R16", bench_of(optimizer={**SGD, "lr": 1e-9})).verdict is CheckVerdict.PASS
    assert found_by("R16", bench_of(optimizer={**SGD, "lr": 1e4})).verdict is CheckVerdict.PASS


def test_one_distinct_example_cannot_be_overfitted() -> None:
    examples = Examples(
        name="same",
        inputs=np.ones((12, 3), np.float32),
        targets=np.arange(12) % 2,
        task="classification",
        classes=("a", "b"),
    )
    split = Split(train=np.arange(8), validation=np.arange(8, 10), test=np.arange(10, 12))
    bench = bench_of()
    same = Bench(
        dataset=Dataset(examples=examples, split=split), config=config(MLP), settings={}, device=bench.device, seed=0
    )
    assert found_by("R16", same).verdict is CheckVerdict.SKIP


@pytest.mark.parametrize("model", [own("spectral"), own("Bounded", scale=2.0), own("Steps"), own("lazy")])
def test_logits_that_are_bounded_are_learned_as_far_as_they_go(model) -> None:
    found = found_by("R16", bench_of(model))
    assert found.verdict is CheckVerdict.PASS, found.sentence


@pytest.mark.slow
def test_examples_that_are_right_with_a_large_loss_are_a_warning() -> None:
    found = found_by("R16", bench_of(own("Bounded", scale=1.0)))
    assert found.verdict is CheckVerdict.WARN, found.sentence
    assert "all predicted right" in found.sentence


@pytest.mark.parametrize("optimizer", [own("Rated", rate=0.1), own("Eighth", lr=0.1)])
def test_unusual_optimisers_lower_their_loss(optimizer) -> None:
    found = found_by("R16", bench_of(optimizer=optimizer))
    assert found.verdict is CheckVerdict.PASS, found.sentence
