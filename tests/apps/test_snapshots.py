"""Snapshots from the schedule to the champion, as a user sees them."""

import json
from pathlib import Path

import numpy as np
import pytest

from search.layout import SNAPSHOTS, WEIGHTS
from tests.kits.commands import search

CYCLES = (
    "schedule=sgdr",
    "schedule.cycle=0.333333",
    "schedule.multiplier=1",
    "~schedule.space.cycle",
    "~schedule.space.multiplier",
)
SHORT = (
    "model=mlp",
    "budget.trials=2",
    "trainer.epochs=3",
    "pruner=none",
    "cluster.workers=1",
    "squeeze.keep=1",
    "squeeze.longer.trials=0",
)
COMMAND = (*CYCLES, *SHORT, "optimizer.lr=0.003")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("snapshots")


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    return search(folder, *COMMAND, "stages=[search,squeeze,report]")


@pytest.fixture(scope="module")
def study(folder: Path, printed: str) -> Path:
    assert "snapshot ensemble" in printed
    return folder / "outputs" / "digits"


@pytest.mark.slow
def test_each_cycle_of_a_trial_that_is_kept_left_a_member(study: Path) -> None:
    found = sorted(study.glob(f"trials/*/{SNAPSHOTS}/*/{WEIGHTS}"))
    assert len({path.parents[2] for path in found}) == 1, "the other's were cleared away"
    assert [path.parent.name for path in found] == ["0", "1", "2"]


@pytest.mark.slow
def test_snapshots_are_judged_beside_the_trials(study: Path) -> None:
    contenders = {c["name"]: c for c in json.loads((study / "results.json").read_text())["contenders"]}
    members = contenders["snapshot ensemble"]["members"]
    (trial,) = contenders["single best"]["members"]
    assert members == pytest.approx({f"{trial}/{SNAPSHOTS}/{cycle}": 1 / 3 for cycle in range(3)})
    test = np.mean([np.load(study / member / "test.npy") for member in members], axis=0)
    assert test.shape == (359, 10)
    assert 0.5 < contenders["snapshot ensemble"]["test"]["value"] <= 1


@pytest.mark.slow
def test_snapshots_can_be_the_champion(folder: Path, study: Path) -> None:
    results = json.loads((study / "results.json").read_text())
    chosen = {**results, "champion": "snapshot ensemble", "model": None}
    (study / "results.json").write_text(json.dumps(chosen))
    search(folder, *COMMAND, "stages=[squeeze]")
    assert json.loads((study / "champion" / "description.json").read_text())["name"] == "snapshot ensemble"
    assert json.loads((study / "results.json").read_text())["model"] == "models:/digits@champion"
