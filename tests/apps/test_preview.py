"""`search stages=[preview]`: what would be tried, before anything is."""

import re
from pathlib import Path

import pytest

from search.checks.stored import StageFindings
from search.records import CheckVerdict, Finding
from tests.kits.commands import SMALL, events, probed, search

PREVIEW = "stages=[preview]"
ALONE = ("tracking=none", "cluster.workers=1")


def trials_shown(said: str) -> dict[int, tuple[str, dict[str, str]]]:
    """Return the trials in what was printed: who chose each, and its parameters."""
    lines = re.findall(r"│ +(\d+) │ (\w+) +│ (.*?) +│", said)
    return {int(number): (by, dict(word.split("=") for word in words.split())) for number, by, words in lines}


def test_a_preview_is_light_and_leaves_nothing(tmp_path: Path) -> None:
    said = probed(tmp_path, PREVIEW)
    assert (said.code, said.errors) == (0, [])
    assert not {"ray", "mlflow", "pandas", "sklearn"} & set(said.heavy)  # a schedule's curve is PyTorch's
    assert list(tmp_path.iterdir()) == []


def test_a_preview_of_an_objective_needs_no_torch(tmp_path: Path) -> None:
    said = probed(
        tmp_path, PREVIEW, "+objective={_target_: math.exp, x: 1.0}", "+objective.space.x={low: 0.0, high: 1.0}"
    )
    assert (said.code, said.errors) == (0, [])
    assert "torch" not in said.heavy


@pytest.mark.slow
def test_a_preview_of_several_jobs_leaves_nothing(tmp_path: Path) -> None:
    said = search(tmp_path, "-m", PREVIEW, "model=mlp,linear")
    assert said.count("the first trials\n") == 2
    assert list(tmp_path.iterdir()) == []


def test_a_preview_shows_space_grid_trials_and_budget(tmp_path: Path) -> None:
    said = search(tmp_path, PREVIEW, "enqueue=[{model: cnn, model.channels: 24}]", *ALONE)
    assert "9 dimensions; with optimizer=adamw, schedule=cosine" in said
    assert re.search(r"│   model=cnn +│ +│ +│ +│\n│     model.channels +│ choice +│ 8, 16, 24 +│ 16 +│", said)
    assert re.search(r"│ optimizer.lr +│ float, log +│ 0.0003 to 0.01 +│ 0.001 +│", said)
    assert "grid: continuous in model.mlp.dropout, model.cnn.dropout, optimizer.lr" in said
    shown = trials_shown(said)
    assert [by for by, _ in shown.values()] == ["default", "enqueue", "random", "random", "random"]
    assert shown[1][1]["model.channels"] == "24"
    assert "note: model=cnn is for picture and series data" in said
    assert "budget: 32 trials of 27 epochs, sampler random; asha stops all but the best 1/3 at epoch 3 and 9" in said
    assert "workers: up to 1, each with a trial, or several of one shape where that is faster (fused=auto)" in said
    assert "cost: known after stages=[preflight]" in said


@pytest.mark.slow
def test_the_preflights_short_runs_tell_the_pace_before_there_is_a_trial(tmp_path: Path) -> None:
    study = tmp_path / "outputs" / "digits"
    (study / "checks").mkdir(parents=True)
    pace = {"seconds_per_epoch": 0.5, "parameters": 1_000_000.0}
    finding = Finding(row="R17", title="", verdict=CheckVerdict.PASS, sentence="", measured=pace)
    StageFindings(stage="preflight", made_from="", began=0.0, ended=1.0, findings=(finding,)).save(study)
    said = search(tmp_path, PREVIEW, *ALONE, "budget.trials=2", "trainer.epochs=4")
    assert "cost: at most 4 s for 2 trials on 1 worker (0.5 s an epoch); about 8.0 MB on disk for 2 trials" in said


@pytest.mark.slow
def test_a_preview_draws_each_schedule_there_is(tmp_path: Path) -> None:
    said = search(tmp_path, PREVIEW, "choose.schedule=[cosine,one_cycle,sgdr]", "trainer.epochs=8", *ALONE)
    first = re.escape("schedule=cosine: learning rate, with optimizer.lr=0.001, over 8 epochs")
    assert re.search(rf"{first}\n *0\.001 ┤ +█", said)
    assert said.count("over 8 epochs") == 3
    assert len(re.findall(r"^ +0 +4 +8$", said, re.MULTILINE)) == 3
    assert "momentum, or the first of betas: 0.95 to 0.85, lowest after 30% of the run" in said
    assert "cycles end at epoch 1.14, 3.43, 8" in said
    assert "steps an epoch" not in said


@pytest.mark.slow
def test_a_schedule_in_steps_says_how_it_was_drawn(tmp_path: Path) -> None:
    said = search(
        tmp_path, PREVIEW, "schedule=step", "schedule.unit=steps", "schedule.every=500", "~schedule.space.every", *ALONE
    )
    assert "drawn with 100 steps an epoch: how many there are depends on the data" in said


def test_a_preview_refuses_a_schedule_that_cannot_be(tmp_path: Path) -> None:
    said = search(tmp_path, PREVIEW, "schedule.unit=weeks", *ALONE, code=2)
    assert "schedule.unit=weeks: must be one of budget, epochs, steps" in said


@pytest.mark.slow
def test_a_preview_of_a_grid_counts_its_points(tmp_path: Path) -> None:
    finite = (
        "model=mlp",
        "sampler=grid",
        "~model.space.dropout",
        "~optimizer.space.lr",
        "~optimizer.space.weight_decay",
        "~schedule.space.warmup",
    )
    said = search(tmp_path, PREVIEW, *finite, "~model.space.depth")
    assert "grid: 3 points" in said
    assert [by for by, _ in trials_shown(said).values()] == ["default", "grid", "grid"]
    assert "budget: 3 trials of 27 epochs" in said


@pytest.mark.slow
def test_a_preview_says_that_tpe_depends_on_results(tmp_path: Path) -> None:
    said = search(tmp_path, PREVIEW, "sampler=tpe")
    assert "note: tpe depends on the results; these are random draws" in said


@pytest.mark.slow
def test_the_trials_shown_are_those_of_the_search_and_then_the_cost_is_known(tmp_path: Path) -> None:
    few = (*SMALL, *ALONE, "budget.trials=2", "trainer.epochs=2", "pruner=none")
    shown = trials_shown(search(tmp_path, PREVIEW, *few))
    search(tmp_path, *few, "stages=[search]")
    study = tmp_path / "outputs" / "digits"
    began = {event["number"]: event["params"] for event in events(study, "started")}
    assert {n: p["model"] for n, (_, p) in shown.items()} == {n: p["model"] for n, p in began.items()}

    before = {path: path.stat().st_mtime_ns for path in study.rglob("*")}
    said = search(tmp_path, PREVIEW, *few, "budget.trials=5")
    assert re.search(r"cost: about [\d.]+ s for 3 trials on 1 worker \([\d.]+ s an epoch, 2 epochs a trial\)", said)
    assert re.search(r"about [\d.]+ [kM]B on disk for 5 trials with weights", said)
    assert "nothing is left to train" in search(tmp_path, PREVIEW, *few)
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*")} == before
