"""The stage data_curve: the best trial's configuration on growing parts of the training split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from search.apps.repeated import base_of_study, values_by_seed
from search.apps.report import print_data_curve
from search.apps.summary import tell
from search.apps.training import TrainingSession
from search.errors import UsageError
from search.files import write_atomically
from search.post.data_curve import PICTURE, DataCurve, sizes_of
from search.sweep.study import Study
from search.train.plan import Plan

_IN_EPOCHS = ("epochs", "checkpoint_every")
"""Settings of a trainer that count epochs."""


def data_curve(session: TrainingSession, study: Study) -> None:
    """Bring the stored curve and its picture up to date with the base, the sizes and the seeds, then MLflow with them.

    The parts are nested within a seed and hold the classes in their shares; validation is the same for all, and the
    test split is not touched. Raises UsageError where the sizes do not fit the data.
    """
    node = session.cfg.data_curve
    name, base = base_of_study(session, study)
    most = min(len(session.dataset.split.train), base["trainer"].get("examples") or math.inf)
    wanted = session.plain("data_curve")["sizes"]
    sizes = sizes_of(wanted, int(most), len(session.dataset.examples.classes))
    configs = {str(size): with_examples(base, size, int(most), hold=node.hold) for size in sizes}
    values = values_by_seed(session, "data_curve", configs, node.seeds)
    curve = DataCurve(
        metric=session.metric.name,
        maximize=session.metric.maximize,
        base=name,
        hold=node.hold,
        sizes=sizes,
        values=tuple(tuple(v if v is None or math.isfinite(v) else None for v in values[str(size)]) for size in sizes),
    )
    picture = session.folder / PICTURE
    if curve != DataCurve.load(session.folder) or not picture.exists():
        from search.reporting.figures import draw  # brings matplotlib

        write_atomically(picture, draw(curve.figure()))
        curve.save(session.folder)
    if "report" not in session.cfg.stages:  # which prints it, too
        print_data_curve(session, curve)
    tell(session, study.journal)


def with_examples(config: Mapping[str, Any], size: int, most: int, *, hold: str) -> Mapping[str, Any]:
    """Return a configuration that is trained on so many of `most` examples.

    With `hold` "steps" it has as many epochs more as each has fewer steps, so that the curve shows what examples are
    worth and not what steps are. It is trained to the end, and judged by its last epoch: the best of many more epochs
    would flatter small sizes. Raises UsageError where a schedule in epochs would be another one by that.
    """
    if hold == "steps" and config["schedule"].get("unit") == "epochs":
        raise UsageError(
            "data_curve.hold=steps: epochs of fewer examples are shorter, and schedule.unit=epochs counts them; "
            "must be epochs, or schedule.unit budget or steps"
        )
    trainer = config["trainer"]
    plan = Plan.of(trainer)
    more = plan.steps_an_epoch(most) / plan.steps_an_epoch(size) if hold == "steps" else 1.0
    longer = {key: round(trainer[key] * more) for key in _IN_EPOCHS if trainer.get(key) is not None}
    return {**config, "trainer": {**trainer, **longer, "patience": None, "keep": "last", "examples": size}}
