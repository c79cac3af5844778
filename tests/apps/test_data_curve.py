"""The stage data_curve, as a user walks it: behind a search, again, and by `report` alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from search.apps.data_curve import with_examples
from search.errors import UsageError
from tests.kits.commands import events, mlflow_runs, one_after_another, search, table

SMALL = ("trainer.epochs=2", "data_curve.sizes=[30,180,1078]", "data_curve.seeds=2", "model=mlp", "budget.trials=1")
SEARCH = (*SMALL, "stages=[search,data_curve,report]")
SIZES = ("30", "180", "1078")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("user")


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    return search(folder, *SEARCH)


@pytest.fixture
def study(folder: Path, printed: str) -> Path:
    return folder / "outputs" / "digits"


@pytest.mark.slow
def test_each_size_is_trained_for_as_many_steps_over_the_same_seeds(study: Path) -> None:
    stored = json.loads((study / "data_curve.json").read_text())
    assert (stored["base"], stored["metric"], stored["hold"]) == ("trial 0", "accuracy", "steps")
    assert stored["sizes"] == [30, 180, 1078]
    assert all(0 < value <= 1 for row in stored["values"] for value in row)
    assert [len(row) for row in stored["values"]] == [2, 2, 2]
    configs = {
        (size, k): json.loads((study / "data_curve" / size / k / "config.json").read_text())
        for size in SIZES
        for k in "01"
    }
    trainers = {size: configs[size, "0"]["trainer"] for size in SIZES}
    assert [(trainers[s]["examples"], trainers[s]["epochs"]) for s in SIZES] == [(30, 68), (180, 11), (1078, 2)]
    for k in "01":
        assert len({configs[size, k]["trained_on"]["seed"] for size in SIZES}) == 1
    assert {p.name for p in (study / "data_curve").rglob("*") if p.is_file()} == {
        "config.json",
        "outcome.json",
        "log.txt",
    }
    assert not list(study.rglob("test.npy"))


@pytest.mark.slow
def test_the_error_falls_with_the_number_of_examples(study: Path) -> None:
    values = json.loads((study / "data_curve.json").read_text())["values"]
    assert max(values[0]) < min(values[2])


@pytest.mark.slow
def test_the_table_is_printed_once_and_mlflow_has_the_law_and_its_picture(printed: str, study: Path) -> None:
    lines = table(printed)
    assert [sum(size in line for line in lines) for size in (*SIZES, "2 x: 2156", "4 x: 4312")] == [1] * 5
    assert printed.count("trial 0 on parts of the training data: accuracy on validation over 2 seeds") == 1
    sentence = json.loads((study / "data_curve.json").read_text())["sentence"]
    assert sentence in printed.replace("\n", " ")
    (parent,), _ = mlflow_runs(study)
    assert {key for key in parent.data.metrics if key.startswith("data_curve/")} == {
        f"data_curve/{name}" for name in ("floor", "exponent", "times_1", "times_2", "times_4")
    }
    note = parent.data.tags["mlflow.note.content"]
    assert "| 1078 | " in note
    assert sentence in note
    kept = {path.name for path in (study / "artifacts").rglob("data_curve.*")}
    assert kept == {"data_curve.json", "data_curve.png"}


@pytest.mark.slow
def test_the_same_command_again_and_the_report_alone_train_nothing(folder: Path, printed: str, study: Path) -> None:
    before = (study / "data_curve.json").read_bytes()
    for stages in ("stages=[search,data_curve,report]", "stages=[report]"):
        again = search(folder, *SMALL, stages)
        assert "starting the workers" not in again
        assert table(again) == table(printed)
    assert (study / "data_curve.json").read_bytes() == before
    assert len(events(study, "started")) == 1


EPOCHS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "all": (1000, "steps", {"epochs": 9, "checkpoint_every": 10}),
    "half": (500, "steps", {"epochs": 18, "checkpoint_every": 20}),
    "less than a batch": (20, "steps", {"epochs": 288, "checkpoint_every": 320}),
    "a batch and one that an epoch leaves out": (33, "steps", {"epochs": 288, "checkpoint_every": 320}),
    "the same epochs": (20, "epochs", {"epochs": 9, "checkpoint_every": 10}),
}


@pytest.mark.parametrize(("size", "hold", "expected"), EPOCHS.values(), ids=EPOCHS)
def test_fewer_examples_are_given_more_epochs_and_the_last_one_is_judged(
    size: int, hold: str, expected: dict[str, Any]
) -> None:
    trainer = {"epochs": 9, "patience": 3, "checkpoint_every": 10, "batch_size": 16, "accumulate": 2}
    config: dict[str, Any] = {"trainer": trainer, "model": {"width": 8}, "schedule": {"unit": "budget"}}
    made = with_examples(config, size, 1000, hold=hold)
    judged = {"patience": None, "keep": "last", "examples": size}
    assert made == {**config, "trainer": {**config["trainer"], **expected, **judged}}


def test_examples_that_an_epoch_leaves_out_count_for_no_size() -> None:
    trainer = {"epochs": 10, "patience": None, "checkpoint_every": 10, "batch_size": 32}
    config: dict[str, Any] = {"trainer": trainer, "schedule": {}}
    assert with_examples(config, 64, 65, hold="steps")["trainer"]["epochs"] == 10  # 65 are 2 steps, too


def test_a_schedule_in_epochs_is_not_stretched() -> None:
    config = {"trainer": {"epochs": 9, "patience": None, "checkpoint_every": 10, "batch_size": 32}}
    in_epochs = {**config, "schedule": {"unit": "epochs", "warmup": 2}}
    with pytest.raises(
        UsageError, match=r"^data_curve\.hold=steps: .* schedule\.unit=epochs counts them; must be epochs"
    ):
        with_examples(in_epochs, 20, 1000, hold="steps")
    assert with_examples(in_epochs, 20, 1000, hold="epochs")["schedule"] == in_epochs["schedule"]


MISTAKES: dict[str, tuple[list[str], str]] = {
    "two sizes": (["data_curve.sizes=2"], "data_curve.sizes=2: must be a number of at least 3 sizes, or a rising"),
    "two in a list": (["data_curve.sizes=[100,200]"], "data_curve.sizes=[100, 200]: must be a number of at least 3"),
    "falling": (["data_curve.sizes=[400,200,100]"], "data_curve.sizes=[400, 200, 100]: must be a number of"),
    "shares": (["data_curve.sizes=[0.1,0.5,1.0]"], "data_curve.sizes=[0.1, 0.5, 1.0]: must be a number of"),
    "words": (["data_curve.sizes=all"], "data_curve.sizes=all: must be a number of at least 3 sizes"),
    "one seed": (["data_curve.seeds=1"], "data_curve.seeds=1: must be at least 2"),
    "nothing to hold": (["data_curve.hold=time"], "data_curve.hold=time: must be one of steps, epochs"),
    "mistyped": (["+data_curve.size=3"], "data_curve.size: no such key; did you mean sizes? allowed: sizes, seeds"),
    "an objective": (
        ["stages=[search,data_curve]", "+objective={_target_: math.sqrt}"],
        "stages=['search', 'data_curve']: is for networks, not for an objective of your own",
    ),
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, list[str]]]:
    return one_after_another(
        tmp_path_factory.mktemp("mistakes"), {name: words for name, (words, _) in MISTAKES.items()}
    )


@pytest.mark.parametrize("name", MISTAKES)
def test_what_cannot_be_done_is_told_in_one_line_before_anything_heavy(
    refused: dict[str, tuple[int, str, list[str]]], name: str
) -> None:
    code, said, heavy = refused[name]
    assert (code, heavy) == (2, [])
    assert said.startswith(f"search: {MISTAKES[name][1]}"), said
    assert len(said.splitlines()) == 1
