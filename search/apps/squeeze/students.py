"""One network that is taught by the best ensemble, and beside it the same one that is not."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from search.apps.composed import students_space
from search.apps.squeeze.members import Configs, Members, predict
from search.apps.training import TrainingSession, best_trained
from search.keyed import keyed_int
from search.layout import predictions_of
from search.post.contenders import Candidate, weighted
from search.post.results import ALONE, STUDENT
from search.records import Outcome, TrialSpec, TrialState
from search.reporting.progress import TrainingsDisplay
from search.space import Settings, settings_of
from search.sweep import samplers
from search.sweep.batch import run_all
from search.sweep.study import Study
from search.train.data.blends import blends
from search.train.metrics import Array
from search.trial import save_array

_FOLDERS = {STUDENT: "students/taught", ALONE: "students/alone"}
_TEACHER, _TRANSFER = "teacher.npy", "transfer.npy"


def student_configs(session: TrainingSession, study: Study) -> dict[str, Settings]:
    """Return what each student is trained with: the best trial's, with what was drawn of the space of distillation.

    Number 0 is as composed. Each stands there twice, to be taught and alone.
    """
    best = best_trained(session, study)
    if best is None:
        return {}
    node = session.plain("squeeze")
    base = best[1]
    if session.cfg.squeeze.student is not None:
        base = {k: v for k, v in base.items() if k != "pretrained"}  # it has weights for another network
        base = {**base, "model": settings_of(node["student"])}
    configs: dict[str, Settings] = {}
    for k, drawn in enumerate(_drawn(session)):
        config = _with(base, drawn, times=session.cfg.squeeze.distill.times)
        configs |= {f"{folder}/{k}": config for folder in _FOLDERS.values()}
    return configs


def _drawn(session: TrainingSession) -> list[Settings]:
    """Return the settings of each student."""
    distill = session.cfg.squeeze.distill
    if not distill.trials:
        return []
    space = students_space(session.node)
    sampler = samplers.make("random", space, keyed_int(session.cfg.seed, "students"), [], distill.trials)
    params = [space.default(), *(sampler.sample(k, None) for k in range(1, distill.trials))]
    return [space.configure(p, ["distill"])["distill"] for p in params]


def _with(base: Settings, drawn: Settings, *, times: float) -> Settings:
    optimizer, trainer = base["optimizer"], base["trainer"]
    if "lr" in optimizer:
        optimizer = {**optimizer, "lr": optimizer["lr"] * drawn["lr_factor"]}
    model = base["model"]
    if "dropout" in model:
        model = {**model, "dropout": model["dropout"] * drawn["dropout_factor"]}
    trainer = {**trainer, "epochs": math.ceil(times * trainer["epochs"])}
    distill = {"temperature": drawn["temperature"], "mix": drawn["mix"]}
    return {**base, "model": model, "optimizer": optimizer, "trainer": trainer, "distill": distill}


def train_students(
    session: TrainingSession, students: Configs, members: Members, teacher: Candidate
) -> list[Candidate]:
    """Train `students` on the teacher's soft targets and without; return the best of either on validation.

    `members` has those of the teacher.
    """
    if not students:
        return []
    folder = session.folder / "students"
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier teacher
    folder.mkdir()
    transfer = _label(session, members, teacher, folder)
    # One seed for each pair, and not the best trial's: its luck was chosen.
    specs = [
        TrialSpec(
            number=i,
            params={},
            config=config,
            seed=keyed_int(session.cfg.seed, "student", Path(place).name),
            directory=str(session.folder / place),
            teacher=str(folder / _TEACHER) if taught_in(place) else None,
            transfer=transfer if taught_in(place) else None,
        )
        for i, (place, config) in enumerate(students.items())
    ]
    kinds = [STUDENT if taught_in(place) else ALONE for place in students]
    with TrainingsDisplay(session.console, "distilling the ensemble", kinds) as display:
        outcomes = run_all(session.executor, specs, display, session.failures())
    (folder / _TRANSFER).unlink(missing_ok=True)
    found = []
    for kind in _FOLDERS:
        best = _best_of(session, kind, specs, outcomes)
        if best is not None:
            place = str(Path(best.directory).relative_to(session.folder))
            found.append(Candidate(name=kind, weights={place: 1.0}, validation=members.load(place, "validation")))
    return found


def taught_in(place: str) -> bool:
    """Tell whether a folder, relative to the study's, is that of a student with a teacher."""
    return place.startswith(_FOLDERS[STUDENT])


def _label(session: TrainingSession, members: Members, teacher: Candidate, folder: Path) -> str | None:
    """Write what the teacher says of the training examples, and of inputs without labels; return the file of these."""
    masters = list(teacher.weights)
    predict(session, members.configs, masters, "train")
    said = [_said(members, teacher, "train")]
    inputs = _unlabelled(session)
    if inputs is not None:
        save_array(folder / _TRANSFER, inputs)
        for member in masters:
            (session.folder / member / predictions_of("transfer")).unlink(missing_ok=True)  # of other inputs
        predict(session, members.configs, masters, "transfer", folder / _TRANSFER)
        said.append(_said(members, teacher, "transfer"))
        for member in masters:
            (session.folder / member / predictions_of("transfer")).unlink()
    save_array(folder / _TEACHER, np.concatenate(said).astype(np.float32))
    return None if inputs is None else str(folder / _TRANSFER)


def _said(members: Members, teacher: Candidate, split: str) -> Array:
    return weighted(teacher.weights, {member: members.load(member, split) for member in teacher.weights})


def _unlabelled(session: TrainingSession) -> Array | None:
    copies = session.cfg.squeeze.distill.blends
    if not copies:
        return None
    return blends(session.dataset, copies * len(session.dataset.split.train), session.cfg.seed)


def _best_of(
    session: TrainingSession, kind: str, specs: Sequence[TrialSpec], outcomes: Sequence[Outcome]
) -> TrialSpec | None:
    """Return the best student of a kind on validation; say why where all failed."""
    sign = -1.0 if session.metric.maximize else 1.0
    ours = [(s, o) for s, o in zip(specs, outcomes, strict=True) if _is_taught_spec(s) == (kind == STUDENT)]
    well = [(sign * o.value, s) for s, o in ours if o.state is not TrialState.FAILED and o.value is not None]
    if well:
        return min(well, key=lambda pair: pair[0])[1]
    session.console.print(f"{kind} failed: {ours[0][1].reason}", style="red", markup=False)
    return None


def _is_taught_spec(spec: TrialSpec) -> bool:
    return spec.teacher is not None
