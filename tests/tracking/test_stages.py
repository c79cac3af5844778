"""Stages as runs of their own under the search's."""

import dataclasses
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from search.sweep.journal import Journal
from search.tracking.compare import compare
from search.tracking.pages import pages_of
from search.tracking.tracker import StageRun, Summary
from tests.tracking.conftest import everything, open_projection


@pytest.fixture
def stage(tmp_path: Path) -> StageRun:
    folder = tmp_path / "checks" / "preflight"
    (folder / "R11").mkdir(parents=True)
    (folder / "R11" / "finding.json").write_text("{}")
    return StageRun(
        name="preflight",
        metrics={"R11/loss": 2.31, "R11/loss_expected": 2.3026},
        tags={"search.R11": "pass", "search.R20": "fail"},
        note="| R11 | pass |",
        folder=folder,
        began=1_700_000_000.0,
        ended=1_700_000_012.5,
        well=False,
    )


def summary(*stages: StageRun) -> Summary:
    return Summary(metrics={}, note="preflight: 1 pass, 1 fail", files=(), time=1_700_000_013.0, stages=stages)


def runs_of(store: str, name: str = "preflight") -> list[Run]:
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("experiment")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], f"tags.`search.stage` = '{name}'"))


def test_a_stage_is_a_run_under_the_searchs_with_tags_figures_and_files(
    told: str, study: Journal, stage: StageRun
) -> None:
    projection = open_projection(told, study)
    projection.summarize(summary(stage))
    (run,) = runs_of(told)
    assert run.data.tags["mlflow.parentRunId"] == projection.parent
    assert {key: run.data.tags[key] for key in stage.tags} == stage.tags
    assert run.data.tags["mlflow.note.content"] == stage.note
    assert run.data.metrics == stage.metrics
    assert (run.info.status, run.info.end_time) == ("FAILED", 1_700_000_012_500)
    assert run.info.run_name == "preflight"
    assert [f.path for f in projection.client.list_artifacts(run.info.run_id, "R11")] == ["R11/finding.json"]


def test_told_again_it_stays_one_run_and_a_new_look_changes_it(told: str, study: Journal, stage: StageRun) -> None:
    projection = open_projection(told, study)
    for _ in range(2):
        projection.summarize(summary(stage))
    again = dataclasses.replace(
        stage, tags={"search.R11": "pass", "search.R20": "pass"}, well=True, ended=1_700_000_99.0
    )
    projection.summarize(summary(again))
    (run,) = runs_of(told)
    assert run.data.tags["search.R20"] == "pass"
    assert run.info.status == "FINISHED"


def test_the_comparison_takes_it_for_no_trial_and_misses_what_is_not_there(
    told: str, study: Journal, stage: StageRun
) -> None:
    projection, pages = open_projection(told, study), pages_of(everything(), maximize=True)

    def differences(*stages: StageRun) -> list[str]:
        found = compare(projection.client, projection.experiment, study.uid, pages, summary(*stages))
        return [str(d) for d in found.differences if "stage" in str(d) or "none of its trials" in str(d)]

    assert differences(stage) == ["the stage preflight has no run"]
    projection.summarize(summary(stage))
    assert differences(stage) == []
    (run,) = runs_of(told)
    projection.client.set_tag(run.info.run_id, "search.R20", "pass")
    assert differences(stage) == ["the stage preflight: tag search.R20 is pass, not fail"]
