"""The main job, looked at from all sides: one search on real data, Ray, Optuna's storage, MLflow.

The tests stand in the order in which a user would do these things, and build on each other.
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.kits.commands import SMALL, WITH_CHECKS, events, mlflow_runs, one_after_another, results, search, stage_runs

CONTENDERS = [
    "single best",
    "uniform top 10",
    "snapshot ensemble",
    "weighted top 10",
    "greedy ensemble",
    "left training",
    "SWA",
    "greedy soup",
    "student",
    "student alone",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("user")


@pytest.fixture(scope="module")
def printed(folder: Path) -> str:
    return search(folder, *SMALL, WITH_CHECKS)


@pytest.fixture
def study(folder: Path, printed: str) -> Path:
    return folder / "outputs" / "digits"


def test_it_ends_with_the_table_and_what_to_do_next(printed: str, study: Path) -> None:
    for name in CONTENDERS:
        assert name in printed
    assert "6 trials" in printed
    assert "to go on: the same command with budget.trials=12" in printed
    assert f"ui --backend-store-uri sqlite:///{study}/mlflow.db" in printed
    assert "Traceback" not in printed
    assert "Warning" not in printed


def test_every_trial_ended_once_and_some_early(study: Path) -> None:
    ended = Counter(e["number"] for e in events(study, "outcome"))
    assert ended == Counter(range(6))
    assert {"pruned", "complete"} <= {e["state"] for e in events(study, "outcome")}


def test_both_models_were_chosen_with_their_own_parameters(study: Path) -> None:
    drawn = [e["params"] for e in events(study, "started")]
    assert {p["model"] for p in drawn} == {"mlp", "cnn"}
    assert all(("model.width" in p) == (p["model"] == "mlp") for p in drawn)
    assert drawn[0]["optimizer.lr"] == 1e-3, "trial 0 is the composed default"


def test_results_have_intervals_and_one_look_at_the_test_split(study: Path) -> None:
    stored = results(study)
    assert [c["name"] for c in stored["contenders"]] == CONTENDERS
    assert stored["test_looks"] == 1
    for contender in stored["contenders"]:
        for split in ("validation", "test"):
            figure = contender[split]
            assert figure["low"] <= figure["value"] <= figure["high"]
    best = max(c["validation"]["value"] for c in stored["contenders"])
    champion = next(c for c in stored["contenders"] if c["name"] == stored["champion"])
    assert champion["validation"]["value"] == best


def test_only_contenders_were_shown_the_test_split(study: Path) -> None:
    members = {m for c in results(study)["contenders"] for m in c["members"]}
    predicted = {str(p.parent.relative_to(study)) for p in study.rglob("test.npy")}
    assert predicted == members


def test_mlflow_has_the_search_and_its_trials(study: Path) -> None:
    (parent,), trials = mlflow_runs(study)
    assert len(trials) == 6
    stages = stage_runs(study)
    assert stages.keys() == {"inspect", "preflight"}
    assert {r.data.tags["mlflow.parentRunId"] for r in (*trials, *stages.values())} == {parent.info.run_id}
    outcomes = {e["number"]: e for e in events(study, "outcome")}
    for trial in trials:
        outcome = outcomes[int(trial.data.tags["search.number"])]
        assert trial.data.tags["search.state"] == outcome["state"]
        assert trial.data.metrics["best"] == outcome["value"]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["test/greedy_ensemble"] > 0
    assert abs(parent.data.metrics["gain/greedy_ensemble"]) < 1
    assert "| accuracy | members |" in parent.data.tags["mlflow.note.content"]
    assert parent.data.params["optimizer"] == "adamw"


def test_what_a_trial_printed_lies_in_its_log(study: Path) -> None:
    assert all((study / "trials" / f"{n:05d}" / "log.txt").exists() for n in range(6))


def test_nothing_on_disk_is_pickled(study: Path) -> None:
    suffixes = {p.suffix for p in study.rglob("*") if p.is_file()}
    assert not suffixes & {".pkl", ".pickle", ".pt", ".pth", ".ckpt"}
    for array in study.rglob("*.npy"):
        np.load(array, allow_pickle=False)


def test_a_trial_trained_alone_gives_the_same_figures(folder: Path, study: Path) -> None:
    complete = next(e for e in events(study, "outcome") if e["state"] == "complete")
    printed = search(folder, *SMALL, "stages=[train]", f"trial={complete['number']}")
    assert f"accuracy {complete['value']:.6f} at epoch {complete['best_step']}" in printed


def test_the_same_command_again_trains_nothing_and_prints_the_table(folder: Path, printed: str, study: Path) -> None:
    before = (study / "events.jsonl").read_bytes(), (study / "results.json").read_bytes()
    again = search(folder, *SMALL)
    assert before == ((study / "events.jsonl").read_bytes(), (study / "results.json").read_bytes())
    assert "starting the workers" not in again
    table = [line for line in printed.splitlines() if line.startswith("│")]
    assert [line for line in again.splitlines() if line.startswith("│")] == table


def test_what_a_trial_began_with_is_compared_and_never_called(folder: Path, study: Path) -> None:
    member = min(path.parent for path in (study / "trials").glob("*/validation.npy"))
    file, before = member / "config.json", (member / "config.json").read_bytes()
    config = json.loads(before)
    config["model"] = {"_target_": "pathlib.Path.mkdir", "self": {"_target_": "pathlib.Path", "_args_": ["evil"]}}
    file.write_text(json.dumps(config))
    said = search(folder, *SMALL, "stages=[squeeze]", code=2)
    file.write_bytes(before)
    assert said.startswith(f"search: {file}: model._target_: was pathlib.Path.mkdir, now search.train.models.")
    assert said.count("\n") == 1
    assert not (folder / "evil").exists()


@pytest.mark.slow
def test_a_larger_budget_goes_on(folder: Path, study: Path) -> None:
    search(folder, *SMALL, "budget.trials=8")
    assert Counter(e["number"] for e in events(study, "started")) == Counter(range(8))
    assert results(study)["test_looks"] == 2
    (_,), trials = mlflow_runs(study)
    assert len(trials) == 8


DIFFERENCES = {
    "optimizer.space.lr.high=0.5": "optimizer.space.lr.high: was 0.01, now 0.5",
    "seed=1": "seed: was 0, now 1; split.seed: was 0, now 1",
    "trainer.epochs=5": "trainer.epochs: was 4, now 5",
    "split.stratify=false": "split.stratify: was True, now False",
    "metric.name=loss": "metric: was accuracy, now loss",
    "optimizer=sgd": "optimizer._target_: was torch.optim.AdamW, now torch.optim.SGD; ",
}


@pytest.fixture(scope="module")
def refused(folder: Path, printed: str) -> dict[str, tuple[int, str, list[str]]]:
    """What is answered to commands that the study cannot serve: exit code and standard error."""
    commands = [[*SMALL, override] for override in (*DIFFERENCES, "resume=never")]
    commands += [[*SMALL, "stages=[train]", "trial=99"]]
    return one_after_another(folder, {command[-1]: command for command in commands})


@pytest.mark.parametrize("override", DIFFERENCES)
def test_what_changes_figures_makes_another_study(
    study: Path, refused: dict[str, tuple[int, str, list[str]]], override: str
) -> None:
    code, said, _ = refused[override]
    assert code == 2
    assert said.startswith(f"search: {DIFFERENCES[override]}")
    rest = "is another one; choose another name=..., or resume=extend to go on in it"
    assert said.endswith(f": the study in {study} {rest}\n")


def test_resume_never_refuses_an_old_study(refused: dict[str, tuple[int, str, list[str]]]) -> None:
    code, said, _ = refused["resume=never"]
    assert code == 2
    assert said.startswith("search: resume=never:")


def test_a_trial_that_does_not_exist_is_refused(study: Path, refused: dict[str, tuple[int, str, list[str]]]) -> None:
    last = len(events(study, "outcome")) - 1
    assert refused["trial=99"][:2] == (2, f"search: trial=99: not in {study}; it has trials 0 to {last}\n")
