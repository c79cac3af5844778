"""Every bundled model, as `conf/model` has it, is a healthy setup on each kind of data that it fits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

import search
from search.checks.rows import PREFLIGHT
from search.records import CheckVerdict
from search.train.data.arrays import Examples
from tests.kits.zoo import MOST_EXAMPLES, Case, config, digits, divided, findings, said, table, told

MODELS = Path(search.__file__).parents[1] / "conf" / "model"


def waves(seed: int) -> Examples:
    """Return series (N, 1, 40) of two classes: one or two periods, in noise."""
    generator = np.random.default_rng(seed)
    targets = np.arange(MOST_EXAMPLES, dtype=np.int64) % 2
    phases = generator.uniform(0, 1, (MOST_EXAMPLES, 1))
    waves = np.sin(np.linspace(0, 2 * np.pi, 40) * (1 + targets[:, None]) + phases)
    inputs = (waves + generator.normal(0, 0.3, waves.shape))[:, None].astype(np.float32)
    return Examples(name="waves", inputs=inputs, targets=targets, task="classification", classes=("one", "two"))


DATA = {"picture": digits, "series": waves, "table": lambda seed: table("wine", seed)}


def bundled() -> list[tuple[str, dict[str, Any], str]]:
    """Return each option's name, its node as a trial has it, and each kind of data that it fits."""
    cases = []
    for path in sorted(MODELS.glob("*.yaml")):
        node = dict(OmegaConf.to_container(OmegaConf.load(path)))  # type: ignore[arg-type]
        fits = node.pop("fits", DATA)
        model = {str(key): value for key, value in node.items() if key not in ("defaults", "space")}
        cases += [(path.stem, model, kind) for kind in fits]
    return cases


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model", "kind"), bundled(), ids=[f"{name}, {kind}" for name, _, kind in bundled()])
def test_a_bundled_model_fails_nowhere(name: str, model: dict[str, Any], kind: str) -> None:
    case = Case(name=name, dataset=lambda seed: divided(DATA[kind](seed), seed), config=config(model))
    found = findings(case, 0, tuple(PREFLIGHT))
    assert not said(found, CheckVerdict.FAIL), told(found)
    assert not [f for f in found if "did not come to an end" in f.sentence], told(found)
