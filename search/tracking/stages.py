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
    digest = stage_digest(stage)
    if found is not None and found.data.tags.get(_DIGEST) == digest:
        return
    tags = {UID: stage_uid(uid, stage.name), "mlflow.parentRunId": parent, STAGE: stage.name}
    if found is None:
        run = str(client.create_run(experiment, milliseconds(stage.began), tags, stage.name).info.run_id)
    else:
        run = str(found.info.run_id)
    time = milliseconds(stage.ended)
    client.log_batch(run, metrics=[Metric(key, value, time, 0) for key, value in stage.metrics.items()])
    client.log_artifacts(run, str(stage.folder))
    # The digest last: what was cut short is told again.
    words = {**stage.tags, "mlflow.note.content": stage.note, _DIGEST: digest}
    client.log_batch(run, tags=[RunTag(key, value) for key, value in words.items()])
    client.set_terminated(run, "FINISHED" if stage.well else "FAILED", end_time=time)


def different_stages(client: Any, experiment: str, uid: str, stages: Sequence[StageRun]) -> Iterator[str]:
    """Yield in words what MLflow says otherwise of the stages."""
    for stage in stages:
        found = _find(client, experiment, uid, stage.name)
        if found is None:
            yield f"the stage {stage.name} has no run"
            continue
        for key, value in {**stage.tags, _DIGEST: stage_digest(stage)}.items():
            if found.data.tags.get(key) != value:
                yield f"the stage {stage.name}: tag {key} is {found.data.tags.get(key, 'missing')}, not {value}"


def _find(client: Any, experiment: str, uid: str, name: str) -> Any:
    found = client.search_runs([experiment], f"tags.`{UID}` = '{stage_uid(uid, name)}'", max_results=1)
    return found[0] if found else None
