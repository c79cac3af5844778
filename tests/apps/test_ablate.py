"""The stage ablate, as a user walks it: behind a search, again, and alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.kits.commands import events, mlflow_runs, one_after_another, search, table

SMALL = ("trainer.epochs=1", "ablation.seeds=2")
SEARCH = (*SMALL, "stages=[search,ablate,report]", "model=mlp", "budget.trials=1")
ABLATE = (*SEARCH, "ablate=[schedule,dropout,narrow]", "+changes.narrow.model.width=64")


def ablation(study: Path) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((study / "ablation.json").read_text())
    return stored


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("user")


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    return search(folder, *ABLATE)


@pytest.fixture
def study(folder: Path, printed: str) -> Path:
    return folder / "outputs" / "digits"


@pytest.mark.slow
def test_each_change_is_trained_over_the_seeds_of_the_base(study: Path) -> None:
    stored = ablation(study)
    assert stored["base"]["what"] == "trial 0"
    assert [(c["name"], c["what"], c["pairs"], c["verdict"] == "no change") for c in stored["changes"]] == [
        ("schedule", "schedule: cosine → constant", 2, False),
        ("dropout", "the base has it", 0, True),  # the default trial has none
        ("narrow", "model.width: 128 → 64", 2, False),
    ]
    configs = {
        (name, k): json.loads((study / "ablation" / name / k / "config.json").read_text())
        for name in ("base", "schedule", "narrow")
        for k in "01"
    }
    assert {p.name for p in (study / "ablation").iterdir()} == {"base", "schedule", "narrow"}
    for k in "01":
        assert len({configs[name, k]["trained_on"]["seed"] for name in ("base", "schedule", "narrow")}) == 1
    assert configs["base", "0"]["trained_on"] != configs["base", "1"]["trained_on"]
    assert {**configs["base", "0"], "schedule": 0} == {**configs["schedule", "0"], "schedule": 0}
    assert configs["narrow", "0"]["model"]["width"] == 64


@pytest.mark.slow
def test_the_table_is_printed_once_and_mlflow_has_the_gains(printed: str, study: Path) -> None:
    lines = [line for line in table(printed) if "schedule: cosine → constant" in line]
    assert len(lines) == 1
    assert "one change at a time to trial 0" in printed
    (parent,), _ = mlflow_runs(study)
    assert parent.data.metrics["ablation/schedule"] == ablation(study)["changes"][0]["gain"]
    assert "ablation/dropout" not in parent.data.metrics
    assert "| narrow | model.width: 128 → 64 | 2 |" in parent.data.tags["mlflow.note.content"]


@pytest.mark.slow
def test_no_weights_stay_and_the_test_split_is_closed(study: Path) -> None:
    names = {p.name for p in (study / "ablation").rglob("*") if p.is_file()}
    assert names == {"config.json", "outcome.json", "log.txt"}
    assert not list(study.rglob("test.npy"))


@pytest.mark.slow
def test_the_same_command_again_trains_nothing_and_prints_the_table(folder: Path, printed: str, study: Path) -> None:
    before = (study / "ablation.json").read_bytes()
    again = search(folder, *ABLATE)
    assert "starting the workers" not in again
    assert table(again) == table(printed)
    assert (study / "ablation.json").read_bytes() == before
    assert len(events(study, "started")) == 1


@pytest.mark.slow
def test_without_a_study_the_default_trial_is_the_base(tmp_path: Path) -> None:
    """In a job of a multirun. `flat` fits one of the models, and the default is the other; `bad` fails in training."""
    overrides = ("stages=[ablate]", "ablate=[flat,bad,weight_decay]", "tracking=none")
    changes = ("+changes.flat.model.blocks=1", "+changes.bad.optimizer.lr=-1")
    printed = search(tmp_path, "-m", "data=digits", *overrides, *changes, *SMALL)
    (study,) = (tmp_path / "outputs" / "digits").glob("*/ablation.json")
    stored = ablation(study.parent)
    assert stored["base"]["what"] == "the default"
    assert [(c["name"], c["pairs"]) for c in stored["changes"]] == [("bad", 0), ("weight_decay", 2)]
    assert stored["changes"][0]["verdict"] == "too few pairs"
    assert "bad with seed 1 failed: ValueError: Invalid learning rate: -1" in printed
    assert "note: flat does not apply and is left out (changes.flat.model.blocks: no such key; " in printed
    assert "optimizer.weight_decay: 0.01 → 0" in printed
    assert events(study.parent, "started") == []


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no such change": (["ablate=[schedul]"], "ablate: schedul is none of changes; did you mean schedule? allowed: "),
    "no list": (["ablate=schedule"], "ablate"),
    "twice": (["ablate=[dropout,dropout]"], "ablate: dropout stands there twice"),
    "nothing to do": (["stages=[ablate]"], "stages=[ablate]: needs ablate=[...]; allowed: "),
    "one seed": (["ablation.seeds=1"], "ablation.seeds=1: must be at least 2"),
    "mistyped setting": (["+ablation.seed=1"], "ablation.seed: no such key; did you mean seeds? allowed: seeds"),
    "no folder": (["ablate=[a b]", "+changes={a b: {model: {}}}"], "changes.a b: must be 1 to 120 letters"),
    "the base's name": (["ablate=[base]", "+changes.base.trainer.epochs=3"], "changes.base: must be 1 to 120"),
    "a key that no model has": (
        ["ablate=[x]", "+changes.x.model.heads=4"],
        "changes.x.model.heads: no such key; allowed: width, depth, dropout",
    ),
    "a key that the named model lacks": (
        ["model=linear", "ablate=[dropout]"],
        "changes.dropout.model.dropout: no such key; allowed: nothing",
    ),
    "the data": (["ablate=[x]", "+changes.x.data.name=x"], "changes.x.data: cannot be changed; allowed: model, "),
    "a space": (
        ["model=mlp", "ablate=[x]", "+changes.x.model.space.width.low=3"],
        "changes.x.model.space: no such key",
    ),
    "a word for a number": (
        ["model=mlp", "ablate=[x]", "+changes.x.model.width=wide"],
        "changes.x.model.width=wide: must be of the kind of what is there, 128",
    ),
    "a number for a node": (
        ["ablate=[x]", "+changes.x.model=5"],
        "changes.x.model=5: must be a mapping, e.g. {dropout",
    ),
    "a number for a change": (["ablate=[x]", "+changes.x=5"], "changes.x=5: must be a piece of a trial's"),
    "no epochs": (["ablate=[x]", "+changes.x.trainer.epochs=0"], "changes.x: trainer.epochs=0 lies in it; must be"),
    "no such option": (
        ["schedule@changes.schedule.schedule=stairs"],
        "schedule=stairs: no such option; allowed: constant, cosine, cyclical",
    ),
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, list[str]]]:
    return one_after_another(
        tmp_path_factory.mktemp("mistakes"), {name: words for name, (words, _) in MISTAKES.items()}
    )


@pytest.mark.parametrize("name", MISTAKES)
def test_a_change_that_cannot_be_made_is_told_in_one_line_before_anything_heavy(
    refused: dict[str, tuple[int, str, list[str]]], name: str
) -> None:
    code, said, heavy = refused[name]
    assert (code, heavy) == (2, [])
    assert said.startswith(f"search: {MISTAKES[name][1]}"), said
    assert len(said.splitlines()) == 1
