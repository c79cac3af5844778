"""The best trials under new seeds, as a user walks it: behind a search, again, and as members of ensembles."""

import json
from pathlib import Path
from typing import Any

import pytest

from search.layout import WEIGHTS
from tests.kits.in_process import run

SMALL = ("model=mlp", "budget.trials=3", "trainer.epochs=2", "pruner=none", "rematch.top=2", "rematch.seeds=2")


def stored(study: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((study / "rematch.json").read_text())
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs") / "digits"


@pytest.fixture(scope="module")
def said(study: Path) -> str:
    return run(study, *SMALL, "stages=[search,rematch,report]")


@pytest.mark.slow
def test_the_best_are_trained_again_over_the_same_seeds(study: Path, said: str) -> None:
    found = stored(study)
    folders = sorted(path.name for path in (study / "rematch").iterdir())
    named = [variant["name"] for variant in (found["base"], *found["changes"])]
    assert sorted(named) == [f"trial {int(folder)}" for folder in folders]
    seeds = {
        k: {json.loads((study / "rematch" / f / k / "config.json").read_text())["trained_on"]["seed"] for f in folders}
        for k in "01"
    }
    assert [len(seeds[k]) for k in "01"] == [1, 1]
    assert seeds["0"] != seeds["1"]
    assert all((study / "rematch" / f / k / WEIGHTS).exists() for f in folders for k in "01")
    assert not list(study.rglob("test.npy"))


@pytest.mark.slow
def test_the_table_says_who_is_the_best_and_what_is_noise(study: Path, said: str) -> None:
    base = stored(study)["base"]
    assert base["what"] in said
    assert "the best trials under 2 new seeds" in said
    assert "over new seeds trial" in said


@pytest.mark.slow
def test_the_same_again_trains_nothing(study: Path, said: str) -> None:
    files = {path: path.stat().st_mtime_ns for path in study.rglob(WEIGHTS)}
    run(study, *SMALL, "stages=[rematch]")
    assert {path: path.stat().st_mtime_ns for path in study.rglob(WEIGHTS)} == files


@pytest.mark.slow
def test_more_seeds_train_only_these(study: Path, said: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in study.rglob(WEIGHTS)}
    run(study, *SMALL[:-1], "rematch.seeds=3", "stages=[rematch]")
    after = {path: path.stat().st_mtime_ns for path in study.rglob(WEIGHTS)}
    assert {path: after[path] for path in before} == before
    assert sorted(str(path.relative_to(study)) for path in after.keys() - before.keys()) == sorted(
        f"rematch/{folder.name}/2/{WEIGHTS}" for folder in (study / "rematch").iterdir()
    )
