"""Stages that are runs of their own under the search's, beside the trials: what the checks found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from search.tracking.pages import UID, milliseconds
from search.tracking.tracker import StageRun

STAGE = "search.stage"
_DIGEST = "search.digest"


def stage_uid(uid: str, name: str) -> str:
    """Return what names a stage's run; a trial's has a slash there."""
    return f"{uid}#{name}"


def stage_digest(stage: StageRun) -> str:
    """Return a digest of what a stage found and when: its files are of that moment."""
    told = [stage.name, dict(stage.metrics), dict(stage.tags), stage.note, stage.ended]
    return hashlib.blake2b(json.dumps(told).encode(), digest_size=8).hexdigest()


def write_stage(client: Any, experiment: str, uid: str, parent: str, stage: StageRun) -> None:
    """Write a stage's run, unless it stands there; an earlier look's run is told again."""
    from mlflow.entities import Metric, RunTag

    found = _find(client, experiment, uid, stage.name)
    if found is not None:
        if not list(_differences(found, stage)):
            return
        client.delete_run(found.info.run_id)  # of an earlier look: what it found cannot be taken out of a run
    tags = {UID: stage_uid(uid, stage.name), "mlflow.parentRunId": parent, STAGE: stage.name}
    run = str(client.create_run(experiment, milliseconds(stage.began), tags, stage.name).info.run_id)
    time = milliseconds(stage.ended)
    client.log_batch(
        run,
        metrics=[Metric(key, value, time, 0) for key, value in stage.metrics.items()],
        tags=[RunTag(key, value) for key, value in {**stage.tags, "mlflow.note.content": stage.note}.items()],
    )
    client.log_artifacts(run, str(stage.folder))
    client.set_terminated(run, _status(stage), end_time=time)
    client.set_tag(run, _DIGEST, stage_digest(stage))  # the last: what was cut short is told again


def different_stages(client: Any, experiment: str, uid: str, stages: Sequence[StageRun]) -> Iterator[str]:
    """Yield in words what MLflow says otherwise of the stages."""
    for stage in stages:
        found = _find(client, experiment, uid, stage.name)
        if found is None:
            yield f"the stage {stage.name} has no run"
            continue
        for difference in _differences(found, stage):
            yield f"the stage {stage.name}: {difference}"


def _differences(found: Any, stage: StageRun) -> Iterator[str]:
    for key, value in {**stage.tags, "mlflow.note.content": stage.note, _DIGEST: stage_digest(stage)}.items():
        if found.data.tags.get(key) != value:
            yield f"tag {key} is {found.data.tags.get(key, 'missing')}, not {value}"
    for key, figure in stage.metrics.items():
        if found.data.metrics.get(key) != figure:
            yield f"{key} is {found.data.metrics.get(key, 'missing')}, not {figure}"
    if found.info.status != _status(stage):
        yield f"status is {found.info.status}, not {_status(stage)}"


def _status(stage: StageRun) -> str:
    return "FINISHED" if stage.well else "FAILED"


def _find(client: Any, experiment: str, uid: str, name: str) -> Any:
    found = client.search_runs([experiment], f"tags.`{UID}` = '{stage_uid(uid, name)}'", max_results=1)
    return found[0] if found else None
