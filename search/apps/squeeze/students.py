"""One network that is taught by the best ensemble, and beside it the same one that is not."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from search.apps.composed import students_space
from search.apps.squeeze.members import Configs, Members, predict, targets_of
from search.apps.squeeze.transfer import told_of_unlabelled, unlabelled
from search.apps.training import TrainingSession, best_trained
from search.keyed import keyed_int
from search.layout import predictions_of
from search.post.contenders import Candidate
from search.post.pool import Pool
from search.post.results import ALONE, STUDENT
from search.post.selection import cross_fitted, single_best
from search.records import Outcome, TrialSpec, TrialState
from search.reporting.progress import TrainingsDisplay
from search.space import Settings, settings_of
from search.sweep import samplers
from search.sweep.batch import run_all
from search.sweep.repeat import run_missing
from search.sweep.study import Study
from search.train.data.split import folds_of
from search.train.metrics import Array
from search.trial import save_array

_FOLDERS = {STUDENT: "students/taught", ALONE: "students/alone"}
_TEACHER, _TRANSFER = "students/teacher.npy", "students/transfer.npy"


def student_configs(session: TrainingSession, study: Study) -> dict[str, Settings]:
    """Return what each student is trained with: the best trial's, with what was drawn of the space of distillation.

    Number 0 is as composed. Each stands there twice, to be taught and alone; alone it keeps the best trial's dropout:
    who has no teacher needs it.
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
        taught = {**config, "model": _scaled(base["model"], "dropout", drawn["dropout_factor"])}
        configs |= {f"{_FOLDERS[STUDENT]}/{k}": taught, f"{_FOLDERS[ALONE]}/{k}": config}
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
    optimizer = _scaled(optimizer, "lr", drawn["lr_factor"])
    trainer = {**trainer, "epochs": math.ceil(times * trainer["epochs"])}
    distill = {"temperature": drawn["temperature"], "mix": drawn["mix"]}
    return {**base, "optimizer": optimizer, "trainer": trainer, "distill": distill}


def _scaled(node: Settings, key: str, factor: float) -> Settings:
    """Return a node with a number in it scaled, where it has that."""
    value = node.get(key)
    return {**node, key: value * factor} if isinstance(value, int | float) and factor != 1 else node


def train_students(
    session: TrainingSession, students: Configs, members: Members, teacher: Candidate
) -> list[Candidate]:
    """Train `students` on the teacher's soft targets and without; return the best of either on validation.

    `members` has those of the teacher. A student that ended under the same teacher is not trained again.
    """
    if not students:
        return []
    specs = _specs(session, students, _digest(members, teacher))

    def run(missing: list[TrialSpec]) -> list[Outcome]:
        taught = any(spec.teacher is not None for spec in missing)
        if taught:
            _label(session, members, teacher)
        kinds = [ALONE if spec.teacher is None else STUDENT for spec in missing]
        with TrainingsDisplay(session.console, "distilling the ensemble", kinds) as display:
            outcomes = run_all(session.executor, missing, display, session.failures())
        (session.folder / _TRANSFER).unlink(missing_ok=True)
        return outcomes

    outcomes = run_missing(specs, run)
    candidates = (_best_of(session, kind, specs, outcomes, members) for kind in _FOLDERS)
    return [candidate for candidate in candidates if candidate is not None]


def _specs(session: TrainingSession, students: Configs, teacher: str) -> list[TrialSpec]:
    """Return the trainings; one seed for each pair, and not the best trial's: its luck was chosen."""
    specs = []
    data = session.identity["data.digest"]
    more = told_of_unlabelled(session)
    for i, (place, config) in enumerate(students.items()):
        seed = keyed_int(session.cfg.seed, "student", Path(place).name)
        taught = taught_in(place)
        # The folder is all that is known of it later.
        about = {"teacher": teacher, **more} if taught else {"teacher": None, "blends": 0}
        spec = TrialSpec(
            number=i,
            params={},
            config={**config, "taught": {**about, "data": data, "seed": seed}},
            seed=seed,
            directory=str(session.folder / place),
            teacher=str(session.folder / _TEACHER) if taught else None,
            transfer=str(session.folder / _TRANSFER) if taught and any(more.values()) else None,
        )
        specs.append(spec)
    return specs


def _digest(members: Members, teacher: Candidate) -> str:
    """Return 16 digits that change with what the teacher says."""
    says = [sorted(teacher.weights.items()), sorted(teacher.temperatures.items()), teacher.temperature]
    hasher = hashlib.blake2b(json.dumps(says).encode(), digest_size=8)
    for member in sorted(teacher.weights):
        hasher.update(members.digest_of(member).encode())
    return hasher.hexdigest()


def taught_in(place: str) -> bool:
    """Tell whether a folder, relative to the study's, is that of a student with a teacher."""
    return place.startswith(_FOLDERS[STUDENT])


def _label(session: TrainingSession, members: Members, teacher: Candidate) -> None:
    """Write what the teacher says of the training examples, and of inputs that nobody has labelled."""
    masters, inputs = list(teacher.weights), unlabelled(session)
    (session.folder / _TEACHER).parent.mkdir(exist_ok=True)
    predict(session, members.configs, masters, "train")
    said = [_said(members, teacher, "train")]
    if inputs is not None:
        save_array(session.folder / _TRANSFER, inputs)
        files = [session.folder / member / predictions_of("transfer") for member in masters]
        for file in files:
            file.unlink(missing_ok=True)  # of other inputs
        predict(session, members.configs, masters, "transfer", session.folder / _TRANSFER)
        said.append(_said(members, teacher, "transfer"))
        for file in files:
            file.unlink()
    save_array(session.folder / _TEACHER, np.concatenate(said).astype(np.float32))


def _said(members: Members, teacher: Candidate, split: str) -> Array:
    return teacher.predict({member: members.load(member, split) for member in teacher.weights})


def _best_of(
    session: TrainingSession, kind: str, specs: Sequence[TrialSpec], outcomes: Sequence[Outcome], members: Members
) -> Candidate | None:
    """Return the best student of a kind on validation, with cross-fitted predictions; say why where all failed."""
    ours = [(s, o) for s, o in zip(specs, outcomes, strict=True) if (s.teacher is not None) == (kind == STUDENT)]
    places = [str(Path(s.directory).relative_to(session.folder)) for s, o in ours if o.state is not TrialState.FAILED]
    if not places:
        session.console.print(f"{kind} failed: {ours[0][1].reason}", style="red", markup=False)
        return None
    predictions = np.stack([members.load(place, "validation") for place in places])
    pool = Pool(predictions, targets_of(session, "validation"))
    method = single_best(session.metric, np.arange(len(places)))
    best = places[int(method(pool).argmax())]
    folds = folds_of(len(pool.targets), session.cfg.squeeze.folds, session.cfg.seed)
    held_out = cross_fitted({kind: method}, pool, folds)[kind]
    return Candidate(name=kind, weights={best: 1.0}, validation=held_out)
