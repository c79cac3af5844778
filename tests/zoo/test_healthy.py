"""Every second setup in which nothing is wrong, with one seed; `test_zoo` looks at all of them, with five."""

from pathlib import Path

import pytest

from search.records import CheckVerdict
from search.train.data.fashion_mnist import load
from tests.kits.zoo import CNN, LINEAR, MLP, Case, config, divided, findings, said, some_of, told
from tests.zoo import known

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.parametrize("case", [*known.HEALTHY, *known.BUNDLED][::2], ids=lambda case: case.name)
def test_a_healthy_run_fails_nowhere(case: Case) -> None:
    found = findings(case, seed=0)
    assert not said(found, CheckVerdict.FAIL), told(found)


@pytest.mark.slow
@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason=f"{FASHION_MNIST} is not there")
@pytest.mark.parametrize("model", [LINEAR, MLP, CNN], ids=["linear", "mlp", "cnn"])
def test_clothes_whose_classes_overlap_pass_everywhere(model) -> None:
    examples = load("fashion_mnist", str(FASHION_MNIST), 3000)
    case = Case(name="clothes", dataset=lambda seed: divided(some_of(examples, seed), seed), config=config(model))
    found = findings(case, seed=0)
    assert not said(found, CheckVerdict.WARN, CheckVerdict.FAIL), told(found)
